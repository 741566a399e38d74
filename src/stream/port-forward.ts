import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { CrioError, hasCode, messageOf } from '../base/errors.ts';
import type { Pod } from '../pod/pod.ts';
import { dialInNetns } from '../sys/socket.ts';

export interface PortForwardRequest {
  readonly podId: string;
  /** Only old WebSocket clients say them here. */
  readonly ports: readonly number[];
}

export type FindPod = (id: string) => Pod | undefined;

/** The client's side of one forwarded connection. */
export interface ForwardedStream {
  /** Undefined at the end of what the client sends. */
  read(): Promise<Buffer | undefined>;
  /** Waits while the client does not take it; false when it wants no more. */
  write(data: Uint8Array): Promise<boolean>;
  /** Nothing more comes from the pod. */
  end(): void;
  /** The client can say that it has no more to send, so it may still speak when the pod has ended. */
  readonly canHalfClose: boolean;
  /** Resolves when the client has given the connection up. */
  readonly gone: Promise<unknown>;
}

/** IPv4 first, as `localhost` resolves. */
const loopbackAddresses = [
  { host: '127.0.0.1', network: 'tcp4', shown: '127.0.0.1' },
  { host: '::1', network: 'tcp6', shown: '[::1]' },
] as const;
const connectLimitMs = 30_000;
/** Once the pod has ended its side, for what the client may still have to say. */
const lingerMs = 5000;

/** Connects to localhost:`port` as the pod sees it. Throws with CRI-O's text. */
export async function dialPod(findPod: FindPod, podId: string, port: number): Promise<Socket> {
  const pod = findPod(podId);
  if (pod === undefined) {
    throw new CrioError('not-found', `PodSandbox with ID starting with ${podId} not found: ID does not exist`);
  }
  if (!pod.isReady) throw new CrioError('unknown', `sandbox ${pod.id} is not running`);
  const namespace = pod.namespacePaths.get('network');
  if (namespace === undefined && !pod.hostNetwork) {
    throw new CrioError('unknown', `network namespace path of sandbox ${pod.id} is empty`);
  }
  const where = namespace ?? '';
  let first: unknown;
  for (const address of loopbackAddresses) {
    try {
      return await connectTo(namespace, address.host, port);
    } catch (error) {
      first ??= new CrioError(
        'unknown',
        `dial ${address.network} ${address.shown}:${port}: connect: ${causeOf(error)}`,
      );
    }
  }
  throw new CrioError(
    'unknown',
    `port forward into network namespace "${where}": failed to connect to localhost:${port} inside namespace ${pod.id}: ${messageOf(first)}`,
  );
}

function connectTo(namespace: string | undefined, host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = namespace === undefined ? connect({ host, port }) : dialInNetns(namespace, { host, port });
    socket.allowHalfOpen = true;
    const timer = setTimeout(() => socket.destroy(new Error('connection timed out')), connectLimitMs);
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.setNoDelay(true);
      resolve(socket);
    });
  });
}

function causeOf(error: unknown): string {
  if (hasCode(error, 'ECONNREFUSED')) return 'connection refused';
  if (hasCode(error, 'ENETUNREACH', 'EADDRNOTAVAIL')) return 'network is unreachable';
  return messageOf(error);
}

/**
 * Copies both ways until both have ended: the end of one direction is passed on, and the rest of the other still comes.
 * What the client sent before belongs to `client`. Never rejects: a broken connection is an end.
 */
export async function copyBothWays(client: ForwardedStream, target: Socket): Promise<void> {
  const { promise: broken, resolve: onBroken } = Promise.withResolvers<void>();
  target.on('error', () => onBroken());
  target.on('close', () => onBroken());
  const toPod = copyToPod(client, target);
  const toClient = copyToClient(client, target);
  let isOver = false;
  let timer: NodeJS.Timeout | undefined;
  const lingered = toClient.then(() => {
    if (isOver) return undefined;
    client.end();
    return new Promise<void>((resolve) => {
      timer = setTimeout(resolve, client.canHalfClose ? lingerMs : 0);
    });
  });
  // The pod's last output is complete when its copy has ended, also if the connection broke.
  const done = Promise.all([Promise.race([toPod, lingered, broken]), toClient]);
  await Promise.race([done, client.gone]);
  isOver = true;
  clearTimeout(timer);
  target.destroy();
}

async function copyToPod(client: ForwardedStream, target: Socket): Promise<void> {
  for (let data = await client.read(); data !== undefined; data = await client.read()) {
    if (target.destroyed) return;
    if (!target.write(data)) await drained(target);
  }
  if (!target.destroyed) target.end();
}

function drained(target: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      target.off('drain', done);
      target.off('close', done);
      resolve();
    };
    target.on('drain', done);
    target.on('close', done);
  });
}

async function copyToClient(client: ForwardedStream, target: Socket): Promise<void> {
  try {
    for await (const data of target.iterator({ destroyOnReturn: false })) {
      // Nothing sets an encoding, so it is bytes.
      if (!(await client.write(data as Buffer))) return;
    }
  } catch {
    // A reset by the pod: what came before has been passed on.
  }
}

/** What the error stream says. The uid is not known here, as in CRI-O. */
export function forwardErrorText(podId: string, port: number, error: unknown): string {
  return `error forwarding port ${port} to pod ${podId}, uid : ${messageOf(error)}`;
}
