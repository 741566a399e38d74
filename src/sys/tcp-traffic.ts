import type { Socket } from 'node:net';
import { bind, invoke } from './libc.ts';
import type { Pointer } from './libc.ts';

const IPPROTO_TCP = 6;
const TCP_INFO = 11;
/** struct tcp_info of linux/tcp.h, tcp(7): tcpi_bytes_acked and tcpi_bytes_received, each a u64, since Linux 4.1. */
const ackedAt = 120;
const receivedAt = 128;
const infoSize = 136;

const c = {
  getsockopt: bind<(fd: number, level: number, name: number, value: Pointer, length: Pointer) => number>(
    'int getsockopt(int fd, int level, int name, void *value, void *length)',
  ),
};

/**
 * Bytes of a TCP connection that the other side's system has taken, and bytes that have come from it, together: it stands
 * still exactly while nothing moves in either direction, whatever waits in buffers. 0 for a closed one.
 */
export function tcpTraffic(socket: Socket): number {
  const fd = descriptorOf(socket);
  if (fd === undefined) return 0;
  const info = Buffer.alloc(infoSize);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(infoSize);
  invoke('getsockopt', undefined, () => c.getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, length));
  return Number(info.readBigUInt64LE(ackedAt) + info.readBigUInt64LE(receivedAt));
}

/** Node has no public way to it; the same member for TCP and, over the handle of its transport, for TLS. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as { _handle?: { readonly fd?: number } | null };
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}
