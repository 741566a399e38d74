import { closeSync, openSync, readSync } from 'node:fs';
import { constants } from 'node:os';
import { Socket, isIPv6 } from 'node:net';
import { basename, dirname } from 'node:path';
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
const SHUT_WR = 1;
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
  shutdown: bind<(fd: number, how: number) => number>('int shutdown(int fd, int how)'),
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

/**
 * A connected AF_UNIX SOCK_SEQPACKET socket, unix(7), which node:net cannot open. Each message is one packet. Reading
 * is by demand: while nobody asks, packets wait in the kernel.
 */
export class SeqpacketSocket implements AsyncDisposable {
  readonly #fd: number;
  readonly #packet = Buffer.allocUnsafe(maxPacket);
  #watch: DescriptorWatch | undefined;
  #closed = false;

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

  /** No more will be sent; the other side reads an end. */
  end(): void {
    if (!this.#closed) c.shutdown(this.#fd, SHUT_WR);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.close();
    this.#wake?.();
    closeSync(this.#fd);
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

  /** libuv allows one poll per descriptor and the reader has it: a full queue is rare, so a pause does. */
  #waitWritable(): Promise<void> {
    return new Promise((resolve) => {
      setTimeout(resolve, 2);
    });
  }
}

/**
 * Connects to a SOCK_SEQPACKET socket, such as conmon's `attach`. ENOENT, ECONNREFUSED. The folder is reached by a
 * descriptor because an address holds 107 bytes only.
 */
export function connectSeqpacket(path: string): SeqpacketSocket {
  const folder = openSync(dirname(path), O_PATH | O_DIRECTORY | O_CLOEXEC);
  try {
    const address = Buffer.alloc(110);
    address.writeUInt16LE(AF_UNIX, 0);
    address.write(`/proc/self/fd/${folder}/${basename(path)}`, 2, 107);
    const fd = invoke('socket', path, () => c.socket(AF_UNIX, SOCK_SEQPACKET | O_CLOEXEC | O_NONBLOCK, 0));
    try {
      invoke('connect', path, () => c.connect(fd, address, address.length));
      return new SeqpacketSocket(fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  } finally {
    closeSync(folder);
  }
}
