import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { pid as ownPid } from 'node:process';
import { hasCode } from '../base/errors.ts';
import { bind, invoke } from './libc.ts';
import type { Pointer } from './libc.ts';
import { O_CLOEXEC, O_NONBLOCK } from './arch.ts';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
/** Since Linux 6.3; without it a sysctl may take the right to execute. */
const MFD_EXEC = 0x10;
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const F_SEAL_WRITE = 8;
const F_DUPFD_CLOEXEC = 1030;
const F_GETFD = 1;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const FD_CLOEXEC = 1;
const AF_UNIX = 1;
const SOCK_STREAM = 1;

const c = {
  memfdCreate: bind<(name: string, flags: number) => number>('int memfd_create(const char *name, uint flags)'),
  fcntl: bind<(fd: number, command: number, arg: number) => number>('int fcntl(int fd, int cmd, long arg)'),
  pipe2: bind<(fds: Pointer, flags: number) => number>('int pipe2(void *fds, int flags)'),
  socketpair: bind<(domain: number, type: number, protocol: number, fds: Pointer) => number>(
    'int socketpair(int domain, int type, int protocol, void *fds)',
  ),
};

/**
 * memfd_create(2), close-on-exec: an unnamed file in memory, with `content` and its offset at the start. Others open it
 * as /proc/self/fd/N of a process that holds it.
 */
export function memfdCreate(name: string, content?: string | Uint8Array): number {
  const fd = createMemfd(name, MFD_CLOEXEC);
  if (content === undefined) return fd;
  return filled(fd, typeof content === 'string' ? Buffer.from(content) : content);
}

/**
 * A program in memory that nobody can change any more, F_ADD_SEALS of fcntl(2): one that /proc/PID/fd/N of this process
 * executes. The descriptor is one for reading: as long as it is open no other can take a write lease (F_SETLEASE), which
 * would let each execve(2) wait for 45 s. Throws EACCES where sysctl vm.memfd_noexec forbids such programs.
 */
export function sealedMemfd(name: string, content: Uint8Array): number {
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  let fd: number;
  try {
    fd = createMemfd(name, flags | MFD_EXEC);
  } catch (error) {
    if (!hasCode(error, 'EINVAL')) throw error;
    fd = createMemfd(name, flags);
  }
  filled(fd, content);
  try {
    const seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    invoke('fcntl', name, () => c.fcntl(fd, F_ADD_SEALS, seals));
    return openSync(`/proc/self/fd/${fd}`, 'r');
  } finally {
    closeSync(fd);
  }
}

/** Where other processes open a descriptor of this one, as long as it is open. */
export function descriptorPath(fd: number): string {
  return `/proc/${ownPid}/fd/${fd}`;
}

function createMemfd(name: string, flags: number): number {
  return invoke('memfd_create', name, () => c.memfdCreate(name, flags));
}

function filled(fd: number, data: Uint8Array): number {
  try {
    for (let done = 0; done < data.length;) done += writeSync(fd, data, done, data.length - done, done);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** The whole content of a memfd (or any regular file) whatever its offset, cut at `maxBytes`; the descriptor stays open. */
export function readDescriptor(fd: number, maxBytes = Number.MAX_SAFE_INTEGER): Buffer {
  const data = Buffer.alloc(Math.min(fstatSync(fd).size, maxBytes));
  let done = 0;
  while (done < data.length) {
    const length = readSync(fd, data, done, data.length - done, done);
    if (length === 0) break;
    done += length;
  }
  return data.subarray(0, done);
}

/** fcntl(2) F_DUPFD_CLOEXEC: a copy whose number is at least `atLeast`. */
export function duplicate(fd: number, atLeast = 3): number {
  return invoke('fcntl', undefined, () => c.fcntl(fd, F_DUPFD_CLOEXEC, atLeast));
}

/** fcntl(2) F_SETFD */
export function setCloexec(fd: number, on = true): void {
  const flags = invoke('fcntl', undefined, () => c.fcntl(fd, F_GETFD, 0));
  invoke('fcntl', undefined, () => c.fcntl(fd, F_SETFD, on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC));
}

/** fcntl(2) F_SETFL O_NONBLOCK: of the open file, which copies of the descriptor share. */
export function setNonblocking(fd: number): void {
  const flags = invoke('fcntl', undefined, () => c.fcntl(fd, F_GETFL, 0));
  invoke('fcntl', undefined, () => c.fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

/** pipe2(2), both ends close-on-exec. */
export function createPipe(options: { nonblocking?: boolean } = {}): { readonly read: number; readonly write: number } {
  const fds = Buffer.alloc(8);
  const flags = O_CLOEXEC | (options.nonblocking === true ? O_NONBLOCK : 0);
  invoke('pipe2', undefined, () => c.pipe2(fds, flags));
  return { read: fds.readInt32LE(0), write: fds.readInt32LE(4) };
}

/** socketpair(2) of stream sockets, both ends close-on-exec and blocking. */
export function createSocketPair(): readonly [number, number] {
  const fds = Buffer.alloc(8);
  invoke('socketpair', undefined, () => c.socketpair(AF_UNIX, SOCK_STREAM | O_CLOEXEC, 0, fds));
  return [fds.readInt32LE(0), fds.readInt32LE(4)];
}
