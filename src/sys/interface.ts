import { closeSync } from 'node:fs';
import { bind, invoke } from './libc.ts';
import type { Pointer } from './libc.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const IFF_UP = 1;
const nameLength = 16;

const c = {
  socket: bind<(domain: number, type: number, protocol: number) => number>(
    'int socket(int domain, int type, int protocol)',
  ),
  ioctl: bind<(fd: number, request: number, arg: Pointer) => number>(
    'int ioctl(int fd, unsigned long request, void *arg)',
  ),
};

/** Brings an interface of the calling thread's network namespace up, netdevice(7). ENODEV when there is none. */
export function setInterfaceUp(name: string): void {
  const request = Buffer.alloc(40);
  if (request.write(name, 0, nameLength - 1) !== Buffer.byteLength(name))
    throw new RangeError(`interface name "${name}" too long`);
  const fd = invoke('socket', undefined, () => c.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  try {
    invoke('ioctl', name, () => c.ioctl(fd, SIOCGIFFLAGS, request));
    request.writeInt16LE(request.readInt16LE(nameLength) | IFF_UP, nameLength);
    invoke('ioctl', name, () => c.ioctl(fd, SIOCSIFFLAGS, request));
  } finally {
    closeSync(fd);
  }
}
