import { closeSync } from 'node:fs';
import koffi from 'koffi';
import { O_CLOEXEC, O_NONBLOCK } from './arch.ts';
import { bind, invoke, sysError } from './libc.ts';
import type { Pointer } from './libc.ts';
import { constants } from 'node:os';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** struct msghdr and struct cmsghdr on 64-bit Linux, recvmsg(2), cmsg(3). */
const msghdrSize = 56;
const cmsgHeaderSize = 16;
const controlSize = 256;
/** sizeof(sun_path), unix(7) */
const maxPath = 108;

const c = {
  socket: bind<(domain: number, type: number, protocol: number) => number>(
    'int socket(int domain, int type, int protocol)',
  ),
  bind: bind<(fd: number, address: Pointer, length: number) => number>(
    'int bind(int fd, const void *addr, uint length)',
  ),
  listen: bind<(fd: number, backlog: number) => number>('int listen(int fd, int backlog)'),
  accept: bind<(fd: number, address: Pointer, length: Pointer, flags: number) => number>(
    'int accept4(int fd, void *addr, void *length, int flags)',
  ),
  recvmsg: bind<(fd: number, message: Pointer, flags: number) => number>(
    'intptr_t recvmsg(int fd, void *message, int flags)',
  ),
};

/** A unix socket on which an OCI runtime hands over the master side of a terminal (`--console-socket`). */
export class ConsoleSocket implements Disposable {
  readonly #fd: number;

  /** Listens on `path`, which must be free and at most 107 bytes long. */
  constructor(path: string) {
    const name = Buffer.from(`${path}\0`);
    if (name.length > maxPath) throw sysError(constants.errno.ENAMETOOLONG, 'bind', path);
    const socketAddress = Buffer.alloc(2 + name.length);
    socketAddress.writeUInt16LE(AF_UNIX, 0);
    name.copy(socketAddress, 2);
    const fd = invoke('socket', path, () => c.socket(AF_UNIX, SOCK_STREAM | O_CLOEXEC | O_NONBLOCK, 0));
    try {
      invoke('bind', path, () => c.bind(fd, socketAddress, socketAddress.length));
      invoke('listen', path, () => c.listen(fd, 1));
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    this.#fd = fd;
  }

  /**
   * The terminal that a runtime has sent before it ended; the descriptor is close-on-exec and the caller's. Never waits:
   * EAGAIN when nothing was sent.
   */
  take(): number {
    const connection = invoke('accept4', undefined, () => c.accept(this.#fd, null, null, O_CLOEXEC | O_NONBLOCK));
    try {
      return receiveDescriptor(connection);
    } finally {
      closeSync(connection);
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** recvmsg(2) of one message; more descriptors than one are closed. */
function receiveDescriptor(connection: number): number {
  const data = Buffer.alloc(4096);
  const control = Buffer.alloc(controlSize);
  const vector = Buffer.alloc(16);
  vector.writeBigUInt64LE(koffi.address(data), 0);
  vector.writeBigUInt64LE(BigInt(data.length), 8);
  const message = Buffer.alloc(msghdrSize);
  message.writeBigUInt64LE(koffi.address(vector), 16);
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(koffi.address(control), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  invoke('recvmsg', undefined, () => c.recvmsg(connection, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  const fds = descriptorsIn(control.subarray(0, Number(message.readBigUInt64LE(40))));
  const [first, ...others] = fds;
  for (const fd of others) closeSync(fd);
  if (first === undefined) throw sysError(constants.errno.EPROTO, 'recvmsg');
  return first;
}

function descriptorsIn(control: Buffer): number[] {
  if (control.length < cmsgHeaderSize) return [];
  const length = Math.min(Number(control.readBigUInt64LE(0)), control.length);
  if (control.readInt32LE(8) !== SOL_SOCKET || control.readInt32LE(12) !== SCM_RIGHTS) return [];
  const fds: number[] = [];
  for (let at = cmsgHeaderSize; at + 4 <= length; at += 4) fds.push(control.readInt32LE(at));
  return fds;
}
