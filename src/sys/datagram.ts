import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { SysError } from '../base/errors.ts';
import { O_CLOEXEC, O_NONBLOCK } from './arch.ts';
import { bind, invoke, type Pointer } from './libc.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_NOSIGNAL = 0x4000;
/** sizeof(sun_path), unix(7) */
const maxPath = 108;

const c = {
  socket: bind<(domain: number, type: number, protocol: number) => number>(
    'int socket(int domain, int type, int protocol)',
  ),
  sendto: bind<
    (fd: number, data: Pointer, length: number, flags: number, address: Pointer, addressLength: number) => number
  >('intptr_t sendto(int fd, const void *data, size_t length, int flags, const void *addr, uint addrLength)'),
};

/**
 * Sends one datagram to a unix socket, unix(7), which node:net cannot do; never blocks. A path that starts with `@`
 * is in the abstract namespace. Throws SysError.
 */
export function sendDatagram(path: string, data: Uint8Array): void {
  const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`);
  if (name.length > maxPath) {
    throw new SysError({ code: 'ENAMETOOLONG', errno: constants.errno.ENAMETOOLONG, syscall: 'sendto', path });
  }
  const address = Buffer.alloc(2 + name.length);
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, 2);
  const fd = invoke('socket', path, () => c.socket(AF_UNIX, SOCK_DGRAM | O_CLOEXEC | O_NONBLOCK, 0));
  try {
    invoke('sendto', path, () => c.sendto(fd, data, data.length, MSG_NOSIGNAL, address, address.length));
  } finally {
    closeSync(fd);
  }
}
