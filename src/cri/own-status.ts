import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { CrioError } from '../base/errors.ts';
import * as cri from './gen/api_pb.ts';

export interface OwnStatus extends Disposable {
  /** Throws when the daemon does not answer in time, or says that it is not ready. */
  check(limitMs: number): Promise<void>;
}

/** Asks for `Status` through the socket, as kubelet does. A network that was never ready yet is no fault: its plugin may come as a pod. */
export function openOwnStatus(socket: string): OwnStatus {
  const client = new Client(`unix:${socket}`, credentials.createInsecure());
  let networkWasReady = false;
  return {
    async check(limitMs) {
      const conditions = (await askStatus(client, limitMs)).status?.conditions ?? [];
      if (conditions.length === 0) throw new CrioError('internal', 'the status has no conditions');
      for (const { type, status, message } of conditions) {
        if (type === 'NetworkReady' && status) networkWasReady = true;
        if (!status && (type !== 'NetworkReady' || networkWasReady))
          throw new CrioError('unavailable', `condition ${type} is false: ${message}`);
      }
    },
    [Symbol.dispose]: () => client.close(),
  };
}

function askStatus(client: Client, limitMs: number): Promise<cri.StatusResponse> {
  const { method } = cri.RuntimeService;
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      `/${cri.RuntimeService.typeName}/${method.status.name}`,
      (request: cri.StatusRequest) => Buffer.from(toBinary(cri.StatusRequestSchema, request)),
      (bytes) => fromBinary(cri.StatusResponseSchema, bytes),
      create(cri.StatusRequestSchema),
      new Metadata(),
      { deadline: Date.now() + limitMs },
      (error, answer) => {
        if (error !== null || answer === undefined) reject(error ?? new CrioError('internal', 'no answer'));
        else resolve(answer);
      },
    );
  });
}
