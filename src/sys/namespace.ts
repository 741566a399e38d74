import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { CrioError, hasCode, messageOf, wrap } from '../base/errors.ts';
import { O_CLOEXEC, O_CREAT, O_EXCL, O_RDONLY } from './arch.ts';
import { bind, invoke } from './libc.ts';
import { MNT_DETACH, MS_BIND, UMOUNT_NOFOLLOW, mount, umount } from './mount.ts';
import { setInterfaceUp } from './interface.ts';

// linux/sched.h
export const CLONE_NEWNS = 0x20000;
export const CLONE_NEWCGROUP = 0x2000000;
export const CLONE_NEWUTS = 0x4000000;
export const CLONE_NEWIPC = 0x8000000;
export const CLONE_NEWUSER = 0x10000000;
export const CLONE_NEWPID = 0x20000000;
export const CLONE_NEWNET = 0x40000000;

const c = {
  unshare: bind<(flags: number) => number>('int unshare(int flags)'),
  setns: bind<(fd: number, type: number) => number>('int setns(int fd, int nstype)'),
};

/** The namespaces that the main thread can enter and leave again; others need a process of their own. */
export type PinnableNamespace = 'network' | 'ipc' | 'uts';

const kinds: Readonly<Record<PinnableNamespace, { readonly flag: number; readonly file: string }>> = {
  network: { flag: CLONE_NEWNET, file: 'net' },
  ipc: { flag: CLONE_NEWIPC, file: 'ipc' },
  uts: { flag: CLONE_NEWUTS, file: 'uts' },
};

/** unshare(2) for the calling thread. Whoever calls it must come back with `setns`. */
export function unshareSync(flags: number): void {
  invoke('unshare', undefined, () => c.unshare(flags));
}

/** setns(2) for the calling thread; `flag` 0 takes any kind of namespace. */
export function setns(fd: number, flag: number): void {
  invoke('setns', undefined, () => c.setns(fd, flag));
}

export interface PinOptions {
  /** New namespaces, and the file that keeps each: created here (its folder exists), a bind mount of the namespace. */
  readonly pins: readonly { readonly type: PinnableNamespace; readonly path: string }[];
  /** Names with dots (`net.ipv4.ip_forward`), written inside the new namespaces in this order. */
  readonly sysctls?: readonly (readonly [name: string, value: string])[];
  readonly hostname?: string;
}

/**
 * Makes new namespaces that live on without a process. All of it happens synchronously on the calling thread, so no
 * other work can ever run in the wrong namespace. In a new network namespace `lo` is up.
 * On failure nothing is left behind.
 */
export function pinNamespaces(options: PinOptions): void {
  const types = options.pins.map((pin) => pin.type);
  let flags = 0;
  for (const type of types) flags |= kinds[type].flag;
  const homes = types.map((type) => ({ type, fd: openNamespace(ownNamespacePath(type)) }));
  const pinned: string[] = [];
  try {
    unshareSync(flags);
    try {
      for (const pin of options.pins) pinOne(pin.type, pin.path, pinned);
      if (types.includes('network')) setInterfaceUp('lo');
      for (const [name, value] of options.sysctls ?? []) writeSysctl(name, value);
      if (options.hostname !== undefined && types.includes('uts')) writeSysctl('kernel.hostname', options.hostname);
    } finally {
      goHome(homes);
    }
  } catch (error) {
    for (const path of pinned) unpinNamespace(path);
    throw error;
  } finally {
    for (const home of homes) closeSync(home.fd);
  }
}

function pinOne(type: PinnableNamespace, path: string, pinned: string[]): void {
  closeSync(openSync(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o444));
  pinned.push(path);
  mount(ownNamespacePath(type), path, 'none', MS_BIND);
}

/** Takes away the mount and the file; one that is gone already is success. The namespace ends with its last user. */
export function unpinNamespace(path: string): void {
  try {
    umount(path, MNT_DETACH | UMOUNT_NOFOLLOW);
  } catch (error) {
    // EINVAL: a file without a mount on it.
    if (!hasCode(error, 'EINVAL', 'ENOENT')) throw error;
  }
  rmSync(path, { force: true });
}

/**
 * Runs `work` with the calling thread inside the namespace at `path`. `work` must be synchronous: what it leaves for
 * later would run outside.
 */
export function inNamespace<T>(path: string, type: PinnableNamespace, work: () => T): T {
  const fd = openNamespace(path);
  try {
    const home = { type, fd: openNamespace(ownNamespacePath(type)) };
    try {
      setns(fd, kinds[type].flag);
      try {
        return work();
      } finally {
        goHome([home]);
      }
    } finally {
      closeSync(home.fd);
    }
  } finally {
    closeSync(fd);
  }
}

/** A thread that cannot come back would do the work of all other pods in this one's namespaces: the daemon ends. */
function goHome(homes: readonly { readonly type: PinnableNamespace; readonly fd: number }[]): void {
  try {
    for (const home of homes) setns(home.fd, kinds[home.type].flag);
  } catch (error) {
    process.stderr.write(`return to the namespaces of the daemon: ${messageOf(error)}\n`);
    process.abort();
  }
}

/** /proc/thread-self: in a worker `self` is the main thread. */
function ownNamespacePath(type: PinnableNamespace): string {
  return `/proc/thread-self/ns/${kinds[type].file}`;
}

function openNamespace(path: string): number {
  return openSync(path, O_RDONLY | O_CLOEXEC);
}

/** Writes one sysctl of the calling thread's namespaces; the name may use dots or slashes, as sysctl(8). */
export function writeSysctl(name: string, value: string): void {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_./@-]*$/.test(name) || name.includes('..')) {
    throw new CrioError('invalid', `sysctl "${name}": not a valid name`);
  }
  try {
    writeFileSync(`/proc/sys/${sysctlPath(name)}`, value, { flag: 'r+' });
  } catch (error) {
    throw wrap(`write sysctl "${name}"`, error);
  }
}

/** As sysctl(8): whichever of dot and slash comes first separates, the other one is part of a name. */
export function sysctlPath(name: string): string {
  const dot = name.indexOf('.');
  const slash = name.indexOf('/');
  if (dot < 0 || (slash >= 0 && slash < dot)) return name;
  return name.replace(/[./]/g, (separator) => (separator === '.' ? '/' : '.'));
}
