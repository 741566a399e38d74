import { closeSync, openSync, readSync } from 'node:fs';
import { constants } from 'node:os';
import { Socket, isIPv6 } from 'node:net';
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../base/errors.ts';
import { O_CLOEXEC, O_DIRECTORY, O_NONBLOCK, O_PATH } from './arch.ts';
import { bind, invoke, lastErrno, sysError, watchDescriptor } from './libc.ts';
import type { DescriptorWatch, Pointer } from './libc.ts';
import { inNamespace } from './namespace.ts';

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_SEQPACKET = 5;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

const c = {
  socket: bind<(domain: number, type: number, protocol: number) => number>(
    'int socket(int domain, int type, int protocol)',
  ),
  connect: bind<(fd: number, address: Pointer, length: number) => number>(
    'int connect(int fd, const void *addr, uint length)',
  ),
  send: bind<(fd: number, data: Pointer, length: number, flags: number) => number>(
    'intptr_t send(int fd, const void *data, size_t length, int flags)',
  ),
};

/**
 * Connects to a TCP port inside a network namespace. The socket is made inside (it stays there for life), connecting
 * goes on asynchronously: errors come as the socket's `error` event.
 */
export function dialInNetns(namespacePath: string, target: { readonly host: string; readonly port: number }): Socket {
  const family = isIPv6(target.host) ? AF_INET6 : AF_INET;
  const fd = inNamespace(namespacePath, 'network', () =>
    invoke('socket', undefined, () => c.socket(family, SOCK_STREAM | O_CLOEXEC | O_NONBLOCK, 0)),
  );
  // manualStart: reading before the connection stands would fail with ENOTCONN. @types/node does not know the option.
  const options: ConstructorParameters<typeof Socket>[0] & { manualStart: boolean } = { fd, manualStart: true };
  return new Socket(options).connect({ host: target.host, port: target.port });
}

/** The longest packet conmon sends: one type byte and 8192 bytes of output. */
const maxPacket = 8193;
/** Read as the end of the stream, read(2), like shutdown(2); but only of this the sender learns that it has been read. */
const endPacket = Buffer.alloc(0);
/** Pauses between the questions whether the other side has taken the end. */
const lingerMs = { first: 1, last: 1000 };
/** Later ones do not keep the process running: the other side has stopped reading. */
const holdUpMs = 100;
/** Pauses between tries to connect to a listener whose queue is full; two seconds in all. */
const fullQueueMs = { first: 1, last: 1024 };
/** Packets read in a row from one that is left. */
const drainedPerTurn = 32;

/**
 * A connected AF_UNIX SOCK_SEQPACKET socket, unix(7), which node:net cannot open. Each message is one packet. Reading
 * is by demand: while nobody asks, packets wait in the kernel.
 */
export class SeqpacketSocket implements AsyncDisposable {
  readonly #fd: number;
  readonly #packet = Buffer.allocUnsafe(maxPacket);
  #watch: DescriptorWatch | undefined;
  /** For the caller. */
  #closed = false;
  /** The descriptor. */
  #released = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** The next packet; undefined at the end of the stream, after `close`, or when the other side is gone. */
  async receive(): Promise<Buffer | undefined> {
    while (!this.#closed) {
      try {
        const length = readSync(this.#fd, this.#packet);
        return length === 0 ? undefined : Buffer.from(this.#packet.subarray(0, length));
      } catch (error) {
        if (hasCode(error, 'ECONNRESET')) return undefined;
        if (!hasCode(error, 'EAGAIN')) throw error;
      }
      await this.#ready({ readable: true });
    }
    return undefined;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    for (let packet = await this.receive(); packet !== undefined; packet = await this.receive()) yield packet;
  }

  /** Sends one packet, waiting while the receiver's queue is full. EPIPE when it is gone. */
  async send(packet: Uint8Array): Promise<void> {
    while (!this.#closed) {
      if (c.send(this.#fd, packet, packet.length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return;
      const errno = lastErrno();
      if (errno === constants.errno.EINTR) continue;
      if (errno !== constants.errno.EAGAIN) throw sysError(errno, 'send');
      await this.#waitWritable();
    }
    throw sysError(constants.errno.EPIPE, 'send');
  }

  /** No more will be sent; the other side reads an end after all that was sent. */
  async end(): Promise<void> {
    try {
      await this.send(endPacket);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }

  /**
   * To the caller the same as `close`; but the descriptor stays open, and output is read and dropped, until the other
   * side has read all that was sent and the end, and says so with shutdown(2), or is gone. `close` cuts that short.
   */
  async leave(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake?.();
    for (let pauseMs = lingerMs.first; !this.#isParted(); pauseMs = Math.min(2 * pauseMs, lingerMs.last)) {
      await this.#readyOrLater(pauseMs);
    }
    this.close();
  }

  close(): void {
    if (this.#released) return;
    this.#closed = true;
    this.#released = true;
    this.#wake?.();
    closeSync(this.#fd);
  }

  /** Drops what has come, tells of the end, and knows whether the other side has taken it. */
  #isParted(): boolean {
    if (this.#released) return true;
    try {
      for (let count = 0; count < drainedPerTurn; count++) if (readSync(this.#fd, this.#packet) === 0) return true;
    } catch (error) {
      if (!hasCode(error, 'EAGAIN')) return true;
    }
    if (c.send(this.#fd, endPacket, 0, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return false;
    const errno = lastErrno();
    return errno !== constants.errno.EAGAIN && errno !== constants.errno.EINTR;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #wake: (() => void) | undefined;

  /** One reader at a time. */
  #ready(events: { readable: boolean }): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#watch?.close();
        this.#watch = undefined;
        this.#wake = undefined;
        resolve();
      };
      this.#wake = done;
      this.#watch = watchDescriptor(this.#fd, events, done);
    });
  }

  #readyOrLater(pauseMs: number): Promise<void> {
    const timer = setTimeout(() => this.#wake?.(), pauseMs);
    if (pauseMs > holdUpMs) timer.unref();
    const ready = this.#ready({ readable: true }).finally(() => clearTimeout(timer));
    this.#watch?.unref();
    return ready;
  }

  /** libuv allows one poll per descriptor and the reader has it: a full queue is rare, so a pause does. */
  #waitWritable(): Promise<void> {
    return new Promise((resolve) => {
      setTimeout(resolve, 2);
    });
  }
}

/** The other side of a socket does not read any more, or is no more. */
export function isGone(error: unknown): boolean {
  return hasCode(error, 'EPIPE', 'ECONNRESET', 'ENOTCONN');
}

/**
 * Connects to a SOCK_SEQPACKET socket, such as conmon's `attach`. ENOENT, ECONNREFUSED. While the listener's queue is full
 * (conmon's holds 10) it is tried again, for some seconds; then EAGAIN. The folder is reached by a descriptor because an
 * address holds 107 bytes only.
 */
export async function connectSeqpacket(path: string): Promise<SeqpacketSocket> {
  using open = new DisposableStack();
  const folder = open.adopt(openSync(dirname(path), O_PATH | O_DIRECTORY | O_CLOEXEC), closeSync);
  const address = Buffer.alloc(110);
  address.writeUInt16LE(AF_UNIX, 0);
  address.write(`/proc/self/fd/${folder}/${basename(path)}`, 2, 107);
  using failed = new DisposableStack();
  const fd = invoke('socket', path, () => c.socket(AF_UNIX, SOCK_SEQPACKET | O_CLOEXEC | O_NONBLOCK, 0));
  failed.adopt(fd, closeSync);
  for (let pauseMs = fullQueueMs.first; ; pauseMs *= 2) {
    try {
      invoke('connect', path, () => c.connect(fd, address, address.length));
      failed.move();
      return new SeqpacketSocket(fd);
    } catch (error) {
      if (!hasCode(error, 'EAGAIN') || pauseMs > fullQueueMs.last) throw error;
    }
    await sleep(pauseMs);
  }
}
