import {
  create,
  fromBinary,
  toBinary,
  type DescMethod,
  type DescService,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import type { GenService } from '@bufbuild/protobuf/codegenv2';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { ImageService, RuntimeService } from '../../src/cri/gen/api_pb.ts';

export interface CallOptions {
  readonly timeoutMs?: number;
  /** Ends the call from the client's side. */
  readonly signal?: AbortSignal;
}

/** One function per RPC of a service: unary ones return a promise, server streams an async iterable. */
export type Methods<Service extends DescService> =
  Service extends GenService<infer Shape>
    ? {
        [Name in keyof Shape]: Shape[Name]['methodKind'] extends 'unary'
          ? (
              request?: MessageInitShape<Shape[Name]['input']>,
              options?: CallOptions,
            ) => Promise<MessageShape<Shape[Name]['output']>>
          : (
              request?: MessageInitShape<Shape[Name]['input']>,
              options?: CallOptions,
            ) => AsyncIterable<MessageShape<Shape[Name]['output']>>;
      }
    : never;

export interface CriClient extends Disposable {
  readonly runtime: Methods<typeof RuntimeService>;
  readonly image: Methods<typeof ImageService>;
  /** Resolves when the server accepts calls. */
  ready(timeoutMs: number): Promise<void>;
  /** Sends bytes that need not be a valid message, for tests of the server's checks. */
  raw(method: string, request: Buffer): Promise<Buffer>;
}

const defaultTimeoutMs = 120_000;

/** A client on its own connection: two clients of one program do not share one. */
export function connect(socket: string): CriClient {
  const client = new Client(`unix:${socket}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.max_receive_message_length': 80 << 20,
    'grpc.max_send_message_length': 80 << 20,
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 200,
  });
  return {
    runtime: methodsOf(client, RuntimeService),
    image: methodsOf(client, ImageService),
    ready: (timeoutMs) =>
      new Promise((resolve, reject) => {
        client.waitForReady(Date.now() + timeoutMs, (error) => (error === undefined ? resolve() : reject(error)));
      }),
    raw: (method, request) =>
      new Promise((resolve, reject) => {
        const pass = (bytes: Buffer): Buffer => bytes;
        client.makeUnaryRequest(method, pass, pass, request, (error, reply) =>
          error === null ? resolve(reply ?? Buffer.alloc(0)) : reject(error),
        );
      }),
    [Symbol.dispose]: () => client.close(),
  };
}

/** The gRPC status of a failed call; anything else is rethrown. */
export function serviceError(error: unknown): ServiceError {
  if (error instanceof Error && 'code' in error && 'details' in error) return error as ServiceError; // checked just now
  throw error;
}

function methodsOf<Service extends DescService>(client: Client, service: Service): Methods<Service> {
  const entries = service.methods.map((method) => [
    method.localName,
    method.methodKind === 'unary' ? unary(client, method) : serverStream(client, method),
  ]);
  // The keys and kinds are those of the generated descriptor, from which the type is computed too.
  return Object.fromEntries(entries) as Methods<Service>;
}

type Init = MessageInitShape<DescMethod['input']>;
type Reply = MessageShape<DescMethod['output']>;

function unary(client: Client, method: DescMethod): (request?: Init, options?: CallOptions) => Promise<Reply> {
  const { path, serialize, deserialize } = wire(method);
  return (request = {}, options = {}) =>
    new Promise((resolve, reject) => {
      const deadline = Date.now() + (options.timeoutMs ?? defaultTimeoutMs);
      const call = client.makeUnaryRequest(
        path,
        serialize,
        deserialize,
        request,
        new Metadata(),
        { deadline },
        (error, reply) => {
          if (error !== null) reject(error);
          else if (reply === undefined) reject(new Error(`call "${path}": no reply`));
          else resolve(reply);
        },
      );
      options.signal?.addEventListener('abort', () => call.cancel(), { once: true });
    });
}

function serverStream(
  client: Client,
  method: DescMethod,
): (request?: Init, options?: CallOptions) => AsyncIterable<Reply> {
  const { path, serialize, deserialize } = wire(method);
  return (request = {}, options = {}) => {
    const call = client.makeServerStreamRequest(path, serialize, deserialize, request, new Metadata(), {
      deadline: Date.now() + (options.timeoutMs ?? defaultTimeoutMs),
    });
    options.signal?.addEventListener('abort', () => call.cancel(), { once: true });
    return call;
  };
}

function wire(method: DescMethod): {
  path: string;
  serialize: (request: Init) => Buffer;
  deserialize: (bytes: Buffer) => Reply;
} {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    serialize: (request) => Buffer.from(toBinary(method.input, create(method.input, request))),
    deserialize: (bytes) => fromBinary(method.output, bytes),
  };
}
