import { randomUUID } from 'node:crypto';
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type DescService,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import { Call, type StageListener } from '../base/call.ts';
import { CrioError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { describeMessage } from './describe.ts';
import { toGrpcStatus } from './status.ts';

/** A response that is encoded already: lists are joined from the cached bytes of their items. */
export class EncodedMessage {
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

type Answer<Output extends DescMessage> = MessageInitShape<Output> | EncodedMessage;

type Handler<Method> = Method extends {
  methodKind: infer Kind;
  input: infer Input extends DescMessage;
  output: infer Output extends DescMessage;
}
  ? Kind extends 'unary'
    ? (call: Call, request: MessageShape<Input>) => Promise<Answer<Output>>
    : (call: Call, request: MessageShape<Input>) => AsyncIterable<Answer<Output>>
  : never;

/** One function per RPC; an RPC without one answers UNIMPLEMENTED and names itself. */
export type ServiceHandlers<Service> =
  Service extends GenService<infer Methods extends GenServiceMethods>
    ? { readonly [Name in keyof Methods]?: Handler<Methods[Name]> }
    : never;

type AnyHandler = (call: Call, request: unknown) => unknown;

export interface DispatchOptions {
  readonly log: Logger;
  readonly onStage?: StageListener | undefined;
  /** Told when a unary RPC ends, for metrics: bare method name, milliseconds, whether it failed. */
  readonly onDone?: (method: string, durationMs: number, failed: boolean) => void;
}

/** The gRPC service for a generated service descriptor: decoding, logging, cancellation and error codes for all methods. */
export function bindService<Service extends DescService>(
  service: Service,
  handlers: ServiceHandlers<Service>,
  options: DispatchOptions,
): { definition: ServiceDefinition; implementation: UntypedServiceImplementation } {
  const definition: Record<string, ServiceDefinition[string]> = {};
  const implementation: UntypedServiceImplementation = {};
  // The handlers' types were checked against the descriptor at the call; inside, methods are walked by name.
  const table = new Map(Object.entries(handlers as Readonly<Record<string, AnyHandler | undefined>>));
  for (const method of service.methods) {
    const path = `/${service.typeName}/${method.name}`;
    const streams = method.methodKind === 'server_streaming';
    definition[method.name] = {
      path,
      requestStream: false,
      responseStream: streams,
      requestSerialize: (message: MessageShape<DescMessage>) => Buffer.from(toBinary(method.input, message)),
      requestDeserialize: (bytes: Buffer) => fromBinary(method.input, bytes),
      responseSerialize: (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      responseDeserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
    };
    const handler = table.get(method.localName) ?? notBuiltYet(method);
    implementation[method.name] = streams
      ? streaming(path, method, handler, options)
      : unary(path, method, handler, options);
  }
  return { definition, implementation };
}

function notBuiltYet(method: DescMethod): AnyHandler {
  return () => {
    throw new CrioError('unimplemented', `${method.name} is not implemented in this release`);
  };
}

function unary(
  path: string,
  method: DescMethod,
  handler: AnyHandler,
  options: DispatchOptions,
): handleUnaryCall<MessageShape<DescMessage>, Uint8Array> {
  return (grpc, reply) => {
    const call = newCall(path, grpc, options);
    logRequest(call, method, grpc.request);
    const finish = (failed: boolean) => options.onDone?.(method.name, performance.now() - call.startedMs, failed);
    Promise.resolve()
      .then(() => handler(call, grpc.request))
      .then(
        (answer) => {
          reply(null, encode(method, answer, call));
          finish(false);
        },
        (error: unknown) => {
          call.log.debug(() => `Response error: ${toGrpcStatus(error).details}`);
          reply(toGrpcStatus(error));
          finish(true);
        },
      )
      .catch((error: unknown) => reply(toGrpcStatus(error)));
  };
}

function streaming(
  path: string,
  method: DescMethod,
  handler: AnyHandler,
  options: DispatchOptions,
): handleServerStreamingCall<MessageShape<DescMessage>, Uint8Array> {
  return (grpc) => {
    const call = newCall(path, grpc, options);
    logRequest(call, method, grpc.request);
    pump(grpc, method, handler, call).then(
      () => grpc.end(),
      (error: unknown) => {
        call.log.debug(() => `stream error: ${toGrpcStatus(error).details}`);
        grpc.emit('error', toGrpcStatus(error));
      },
    );
  };
}

/** Writes the handler's messages, waiting when the client is slow: nothing piles up. */
async function pump(
  grpc: ServerWritableStream<MessageShape<DescMessage>, Uint8Array>,
  method: DescMethod,
  handler: AnyHandler,
  call: Call,
): Promise<void> {
  // `ServiceHandlers` says that a streaming method's handler returns an async iterable.
  const messages = handler(call, grpc.request) as AsyncIterable<unknown>;
  for await (const message of messages) {
    if (grpc.cancelled) return;
    if (!grpc.write(encode(method, message, call))) await drained(grpc, call.signal);
  }
}

function drained(
  grpc: ServerWritableStream<MessageShape<DescMessage>, Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      grpc.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    grpc.on('drain', done);
    signal.addEventListener('abort', done, { once: true });
  });
}

/** Every call ends with `cancelled`, after its answer, too; an error made for each would cost a stack trace. */
const canceled = new CrioError('canceled', 'context canceled');

function newCall(
  path: string,
  grpc: Pick<ServerUnaryCall<unknown, unknown>, 'getDeadline'> & {
    on(event: 'cancelled', listener: () => void): unknown;
  },
  options: DispatchOptions,
): Call {
  const abort = new AbortController();
  grpc.on('cancelled', () => abort.abort(canceled));
  const id = randomUUID();
  const deadline = grpc.getDeadline();
  const deadlineMs = deadline instanceof Date ? deadline.getTime() : deadline;
  return new Call({
    name: path,
    id,
    log: options.log.with({ id, name: path }),
    signal: abort.signal,
    deadlineMs: Number.isFinite(deadlineMs) ? performance.now() + (deadlineMs - Date.now()) : undefined,
    onStage: options.onStage,
  });
}

function encode(method: DescMethod, answer: unknown, call: Call): Uint8Array {
  if (answer instanceof EncodedMessage) return answer.bytes;
  // `ServiceHandlers` ties the answer to the method's output type.
  const message = create(method.output, answer as MessageInitShape<DescMessage>);
  call.log.debug(() => `Response: *v1.${method.output.name}: ${describeMessage(method.output, message)}`);
  return toBinary(method.output, message);
}

function logRequest(call: Call, method: DescMethod, request: MessageShape<DescMessage>): void {
  call.log.debug(() => `Request: *v1.${method.input.name}: ${describeMessage(method.input, request)}`);
}
