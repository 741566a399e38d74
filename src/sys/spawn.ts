import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { constants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { hasCode } from '../base/errors.ts';
import { bind, cPath, lastErrno, sysError, watchDescriptor } from './libc.ts';
import type { DescriptorWatch, Pointer } from './libc.ts';
import { createPipe, duplicate, memfdCreate, readDescriptor } from './descriptor.ts';
import { O_RDWR } from './arch.ts';
import { limitNewChild, withChildLimits } from './nofile.ts';
import { kill, killGroup, pidfdOpen } from './process.ts';

const POSIX_SPAWN_SETPGROUP = 0x02;
const POSIX_SPAWN_SETSIGDEF = 0x04;
const POSIX_SPAWN_SETSIGMASK = 0x08;
const P_PID = 1;
const WNOHANG = 1;
const WEXITED = 4;
const WNOWAIT = 0x01000000;
/** Only children of the calling thread. */
const WNOTHREAD = 0x20000000;
/** sizeof is 336 and 80 on x86-64 and arm64 glibc; more does no harm. */
const attributesSize = 512;
const actionsSize = 128;
const sigsetSize = 128;

type SpawnFunction = (
  pid: Pointer,
  file: string,
  actions: Pointer,
  attributes: Pointer,
  argv: readonly (string | null)[],
  env: readonly (string | null)[],
) => number;

const c = {
  spawn: bind<SpawnFunction>(
    'int posix_spawn(void *pid, const char *file, void *actions, void *attr, const char **argv, const char **env)',
  ),
  spawnp: bind<SpawnFunction>(
    'int posix_spawnp(void *pid, const char *file, void *actions, void *attr, const char **argv, const char **env)',
  ),
  attrInit: bind<(attr: Pointer) => number>('int posix_spawnattr_init(void *attr)'),
  attrSetFlags: bind<(attr: Pointer, flags: number) => number>('int posix_spawnattr_setflags(void *attr, short flags)'),
  attrSetSigDefault: bind<(attr: Pointer, set: Pointer) => number>(
    'int posix_spawnattr_setsigdefault(void *attr, void *set)',
  ),
  attrSetSigMask: bind<(attr: Pointer, set: Pointer) => number>(
    'int posix_spawnattr_setsigmask(void *attr, void *set)',
  ),
  sigfillset: bind<(set: Pointer) => number>('int sigfillset(void *set)'),
  actionsInit: bind<(actions: Pointer) => number>('int posix_spawn_file_actions_init(void *actions)'),
  actionsDestroy: bind<(actions: Pointer) => number>('int posix_spawn_file_actions_destroy(void *actions)'),
  addDup2: bind<(actions: Pointer, fd: number, newFd: number) => number>(
    'int posix_spawn_file_actions_adddup2(void *actions, int fd, int newfd)',
  ),
  addOpen: bind<(actions: Pointer, fd: number, path: string, flags: number, mode: number) => number>(
    'int posix_spawn_file_actions_addopen(void *actions, int fd, const char *path, int flags, uint mode)',
  ),
  addChdir: bind<(actions: Pointer, path: string | Uint8Array) => number>(
    'int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)',
  ),
  addCloseFrom: bind<(actions: Pointer, from: number) => number>(
    'int posix_spawn_file_actions_addclosefrom_np(void *actions, int from)',
  ),
  waitpid: bind<(pid: number, status: Pointer, options: number) => number>(
    'int waitpid(int pid, void *status, int options)',
  ),
  waitid: bind<(idType: number, id: number, info: Pointer, options: number) => number>(
    'int waitid(int idtype, uint id, void *info, int options)',
  ),
};

/**
 * What a descriptor of the child is: /dev/null; a pipe (0: the parent writes, others: it reads); a memfd that the parent
 * reads after the end; the daemon's own of the same number; or an open descriptor, which stays the caller's.
 */
export type Stdio = 'null' | 'pipe' | 'memfd' | 'inherit' | { readonly fd: number };

export interface SpawnOptions {
  /** A path, or a name that is looked up in the daemon's PATH. */
  readonly file: string;
  /** The program's own name as it sees it; else `file`. */
  readonly name?: string | undefined;
  /** Without the program's own name. */
  readonly args: readonly string[];
  /** The whole environment; nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string | undefined;
  /** Index = descriptor of the child. Default: /dev/null three times. All others are closed. */
  readonly stdio?: readonly Stdio[];
}

export interface ExitStatus {
  /** Undefined when a signal ended it. */
  readonly code: number | undefined;
  readonly signal: number | undefined;
}

export interface ChildHandle {
  readonly pid: number;
  /** Resolves when the process has ended and is reaped; never rejects. Open pipes do not matter. */
  readonly exited: Promise<ExitStatus>;
  /** It is reaped: its pid may be another's. */
  readonly hasEnded: boolean;
  /** The parent's ends of pipes as streams, made at the first look. */
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  /** The bare descriptor of a 'pipe', from now on the caller's; undefined when it was taken or is a stream already. */
  takePipe(index: number): number | undefined;
  /** Sends a signal, to its whole process group if asked; success when it has ended. Never hits a later process. */
  kill(signal: number, options?: { group?: boolean }): void;
  /** The content of a 'memfd', which is closed with that. Empty when taken before. */
  takeMemfd(index: number): Buffer;
  /** Closes the memfds and pipes that were not taken. */
  close(): void;
}

interface Parts {
  /** The parent's side, by the number of the child's descriptor. */
  readonly memfds: Map<number, number>;
  readonly pipes: Map<number, number>;
  /** Descriptors of the child's side, closed in the parent after the spawn. */
  readonly childEnds: number[];
}

/** Children of this thread that have not been reaped. */
const children = new Map<number, Child>();

/**
 * Starts a program: posix_spawn(3), in a process group of its own, with default signal actions, an empty signal mask and
 * the NOFILE limit that the daemon itself was started with. Blocks 0.1 ms whatever the size of the daemon.
 * Throws the SysError of what failed in the child too (ENOENT, EACCES of the file, ENOENT of `cwd`).
 */
export function spawn(options: SpawnOptions): ChildHandle {
  const stdio = options.stdio ?? ['null', 'null', 'null'];
  const parts: Parts = { memfds: new Map(), pipes: new Map(), childEnds: [] };
  const actions = Buffer.alloc(actionsSize);
  c.actionsInit(actions);
  try {
    stdio.forEach((kind, index) => addStdio(actions, parts, kind, index, stdio.length));
    c.addCloseFrom(actions, stdio.length);
    if (options.cwd !== undefined) c.addChdir(actions, cPath(options.cwd, 'chdir'));
    const pid = startProcess(options, actions);
    return register(pid, parts);
  } catch (error) {
    for (const fd of [...parts.memfds.values(), ...parts.pipes.values()]) closeSync(fd);
    throw error;
  } finally {
    for (const fd of parts.childEnds) closeSync(fd);
    c.actionsDestroy(actions);
  }
}

function addStdio(actions: Buffer, parts: Parts, kind: Stdio, index: number, count: number): void {
  if (kind === 'null') c.addOpen(actions, index, '/dev/null', O_RDWR, 0);
  else if (kind === 'inherit') c.addDup2(actions, index, index);
  else if (kind === 'memfd') {
    const fd = memfdCreate(`stdio-${index}`);
    parts.memfds.set(index, fd);
    dup2Safely(actions, parts, fd, index, count);
  } else if (kind === 'pipe') {
    const pipe = createPipe();
    const isInput = index === 0;
    parts.childEnds.push(isInput ? pipe.read : pipe.write);
    parts.pipes.set(index, isInput ? pipe.write : pipe.read);
    dup2Safely(actions, parts, isInput ? pipe.read : pipe.write, index, count);
  } else dup2Safely(actions, parts, kind.fd, index, count);
}

/** A source whose number is itself among the targets could be overwritten before its turn: a higher copy is used. */
function dup2Safely(actions: Buffer, parts: Parts, fd: number, index: number, count: number): void {
  let source = fd;
  if (fd < count && fd !== index) {
    source = duplicate(fd, count);
    parts.childEnds.push(source);
  }
  c.addDup2(actions, source, index);
}

function startProcess(options: SpawnOptions, actions: Buffer): number {
  const texts = [options.name ?? options.file, ...options.args];
  const env = Object.entries(options.env).map(([key, value]) => `${key}=${value}`);
  for (const text of [options.file, ...texts, ...env]) cPath(text, 'posix_spawn');
  const pidBuffer = Buffer.alloc(4);
  const start = options.file.includes('/') ? c.spawn : c.spawnp;
  const errno = withChildLimits(() =>
    start(pidBuffer, options.file, actions, spawnAttributes(), [...texts, null], [...env, null]),
  );
  if (errno !== 0) throw sysError(errno, 'posix_spawn', options.file);
  const pid = pidBuffer.readInt32LE(0);
  limitNewChild(pid);
  return pid;
}

let attributes: Buffer | undefined;

/** The same for every child, so made once. Node ignores SIGPIPE, and a Go daemon's children expect nothing blocked. */
function spawnAttributes(): Buffer {
  if (attributes !== undefined) return attributes;
  const attr = Buffer.alloc(attributesSize);
  const all = Buffer.alloc(sigsetSize);
  c.attrInit(attr);
  c.sigfillset(all);
  c.attrSetSigDefault(attr, all);
  c.attrSetSigMask(attr, Buffer.alloc(sigsetSize));
  c.attrSetFlags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  attributes = attr;
  return attr;
}

interface KeepAlive {
  ref(): unknown;
  unref(): unknown;
}

/** What keeps the event loop alive while a child runs that only a signal tells of. */
let keepAlive: KeepAlive | undefined;
let signalledChildren = 0;

/**
 * Somebody calls `reapOwnChild` at each SIGCHLD of this thread from now on: then a child needs no pidfd with a poll of its own,
 * half of what the start of a program costs here. `handle` is referenced while there are such children. When that ends
 * (undefined), those that are left get a pidfd; adopted ones keep this process from its end no longer.
 */
export function reapBySignal(handle: KeepAlive | undefined): void {
  keepAlive = handle;
  if (handle === undefined) for (const child of children.values()) child.watchAtEnd();
}

function register(pid: number, parts: Parts): ChildHandle {
  if (keepAlive !== undefined) return new Child(pid, parts, keepAlive);
  let pidfd: number;
  try {
    pidfd = pidfdOpen(pid);
  } catch (error) {
    // Out of descriptors: nobody could see it end, so it ends now.
    kill(pid, constants.signals.SIGKILL);
    c.waitpid(pid, null, 0);
    throw error;
  }
  const child = new Child(pid, parts);
  child.watch(pidfd);
  return child;
}

class Child implements ChildHandle {
  readonly pid: number;
  readonly exited: Promise<ExitStatus>;
  readonly #memfds: Map<number, number>;
  readonly #pipes: Map<number, number>;
  readonly #streams = new Map<number, Socket>();
  #pidfd: number | undefined;
  #watch: DescriptorWatch | undefined;
  readonly #keepAlive: KeepAlive | undefined;
  readonly #isAdopted: boolean;
  readonly #resolve: (status: ExitStatus) => void;
  #ended = false;

  /** With `keepAlive` its end is signalled; otherwise `watch` must be called. */
  constructor(pid: number, parts: Parts, keepAlive?: KeepAlive, isAdopted = false) {
    this.pid = pid;
    this.#isAdopted = isAdopted;
    this.#keepAlive = keepAlive;
    if (keepAlive !== undefined && signalledChildren++ === 0) keepAlive.ref();
    this.#memfds = parts.memfds;
    this.#pipes = parts.pipes;
    const { promise, resolve } = Promise.withResolvers<ExitStatus>();
    this.exited = promise;
    this.#resolve = resolve;
    children.set(pid, this);
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** Reaps when the process of `pidfd`, which is owned from now on, has ended. */
  watch(pidfd: number): void {
    if (this.#pidfd !== undefined) {
      closeSync(pidfd);
      return;
    }
    this.#pidfd = pidfd;
    this.#watch = watchDescriptor(pidfd, { readable: true }, () => this.reap());
  }

  /** Signals are no longer worked off. */
  watchAtEnd(): void {
    this.watch(pidfdOpen(this.pid));
    if (this.#isAdopted) this.#watch?.unref();
  }

  /** waitpid(2) for this very pid; ECHILD would mean that somebody else took it. */
  reap(): void {
    if (this.#ended) return;
    const status = Buffer.alloc(4);
    const result = c.waitpid(this.pid, status, WNOHANG);
    if (result === 0) return;
    this.#ended = true;
    children.delete(this.pid);
    if (this.#keepAlive !== undefined && --signalledChildren === 0) this.#keepAlive.unref();
    this.#watch?.close();
    if (this.#pidfd !== undefined) closeSync(this.#pidfd);
    this.#resolve(result === this.pid ? decodeStatus(status.readInt32LE(0)) : { code: undefined, signal: undefined });
  }

  kill(signal: number, options: { group?: boolean } = {}): void {
    // Not reaped, so the pid (and the group it leads) cannot be anybody else's.
    if (this.#ended) return;
    try {
      if (options.group === true) killGroup(this.pid, signal);
      else kill(this.pid, signal);
    } catch (error) {
      if (!hasCode(error, 'ESRCH')) throw error;
    }
  }

  takeMemfd(index: number): Buffer {
    const fd = this.#memfds.get(index);
    if (fd === undefined) return Buffer.alloc(0);
    this.#memfds.delete(index);
    try {
      return readDescriptor(fd);
    } finally {
      closeSync(fd);
    }
  }

  get stdin(): Writable | undefined {
    return this.#stream(0);
  }

  get stdout(): Readable | undefined {
    return this.#stream(1);
  }

  get stderr(): Readable | undefined {
    return this.#stream(2);
  }

  takePipe(index: number): number | undefined {
    const fd = this.#pipes.get(index);
    this.#pipes.delete(index);
    return fd;
  }

  #stream(index: number): Socket | undefined {
    const existing = this.#streams.get(index);
    if (existing !== undefined) return existing;
    const fd = this.takePipe(index);
    if (fd === undefined) return undefined;
    const stream = new Socket({ fd, readable: index !== 0, writable: index === 0 });
    this.#streams.set(index, stream);
    return stream;
  }

  close(): void {
    for (const fd of [...this.#memfds.values(), ...this.#pipes.values()]) closeSync(fd);
    this.#memfds.clear();
    this.#pipes.clear();
  }
}

/** wait(2): WIFEXITED, WEXITSTATUS, WTERMSIG */
export function decodeStatus(status: number): ExitStatus {
  const signal = status & 0x7f;
  return signal === 0 ? { code: (status >> 8) & 0xff, signal: undefined } : { code: undefined, signal };
}

/** True when `pid` is a child started here that has not been reaped; it is reaped if it has ended. */
export function reapOwnChild(pid: number): boolean {
  const child = children.get(pid);
  child?.reap();
  return child !== undefined;
}

/** waitpid(2) for one process that was not started here, without waiting; undefined when it has not ended. */
export function reapOrphan(pid: number): ExitStatus | undefined {
  if (children.has(pid)) return undefined;
  const status = Buffer.alloc(4);
  const result = c.waitpid(pid, status, WNOHANG);
  if (result < 0 && lastErrno() !== constants.errno.ECHILD) throw sysError(lastErrno(), 'waitpid', String(pid));
  return result === pid ? decodeStatus(status.readInt32LE(0)) : undefined;
}

/** Takes over an orphan that this process, a child subreaper, has become the parent of. ESRCH when there is none. */
export function adopt(pid: number): ChildHandle {
  // 0: it lives and is this thread's, so that its end is signalled.
  const isSignalled = c.waitid(P_PID, pid, null, WEXITED | WNOHANG | WNOWAIT | WNOTHREAD) === 0;
  const signalled = isSignalled ? keepAlive : undefined;
  const pidfd = signalled === undefined ? pidfdOpen(pid) : undefined;
  const child = new Child(pid, { memfds: new Map(), pipes: new Map(), childEnds: [] }, signalled, true);
  if (pidfd !== undefined) child.watch(pidfd);
  // It may have ended before it was registered, and the signal been worked off.
  else child.reap();
  return child;
}
