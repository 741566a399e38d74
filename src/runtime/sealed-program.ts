import { closeSync, readFileSync, statSync } from 'node:fs';
import { hasCode } from '../base/errors.ts';
import { descriptorPath, sealedMemfd } from '../sys/descriptor.ts';
import { spawn } from '../sys/spawn.ts';
import type { ChildHandle, Stdio } from '../sys/spawn.ts';
import { pinned } from './command.ts';
import type { RuntimeCommand } from './command.ts';

/**
 * Before they enter a container, runc and crun make sure that nothing in it can write to their own file (CVE-2019-5736): they
 * bind it read-only or copy it into a sealed memfd, and begin anew from there. That is a fifth of what an exec with crun
 * costs, and several changes of the mount table, which wake up whoever watches it. A program that is started from a
 * sealed memfd sees that there is nothing left to do; so the daemon keeps one of each runtime.
 */
interface Copy {
  /** State of the program's file: another one, by a package's update, is copied anew. */
  readonly version: string;
  /** Undefined when this file cannot be run from a copy. */
  readonly fd: number | undefined;
}

const copies = new Map<string, Copy>();

/**
 * A security module may forbid what has no file on a disk (EPERM, EACCES). And a container can have the runtime run inside
 * by `#!/proc/self/exe`, and reach the copy: it can take its mode away (EACCES) or keep it open for writing (ETXTBSY).
 */
const copyErrors = ['EACCES', 'EPERM', 'ENOEXEC', 'ETXTBSY'] as const;
const elfMagic = Buffer.from('\x7fELF', 'latin1');

/** Whether a runtime does so, by the first line of its `--version`. */
export function sealsItself(version: string): boolean {
  return /^(?:crun|runc) version /.test(version);
}

/** Starts the runtime for an `exec`. Throws the SysError of posix_spawn(3). */
export function spawnExec(command: RuntimeCommand, args: readonly string[], stdio: readonly Stdio[]): ChildHandle {
  const { path, env } = command;
  const file = command.mayBeSealed === true && command.cpuset === '' ? sealedCopy(path) : undefined;
  if (file !== undefined) {
    try {
      return spawn({ file, name: path, args, env, stdio });
    } catch (error) {
      if (!hasCode(error, ...copyErrors)) throw error;
      refuse(path);
    }
  }
  return spawn({ ...pinned(command, path, args), env, stdio });
}

/** Where a copy of the program is, as it is now on disk; undefined when it has to be run from its file. */
export function sealedCopy(path: string): string | undefined {
  const version = versionOf(path);
  if (version === undefined) return undefined;
  const known = copies.get(path);
  if (known?.version === version) return pathOf(known.fd);
  if (known?.fd !== undefined) closeSync(known.fd);
  const fd = copy(path);
  // Written while it was read: the next look finds another version.
  copies.set(path, { version, fd });
  return pathOf(fd);
}

function copy(path: string): number | undefined {
  // SELinux changes the domain by the label of the program's file.
  if (statSync('/sys/fs/selinux/enforce', { throwIfNoEntry: false }) !== undefined) return undefined;
  try {
    const program = readFileSync(path);
    // A script around a runtime may look for its neighbours by the path that it was called by.
    return program.subarray(0, elfMagic.length).equals(elfMagic) ? sealedMemfd('runtime', program) : undefined;
  } catch {
    return undefined;
  }
}

function refuse(path: string): void {
  const known = copies.get(path);
  if (known?.fd === undefined) return;
  closeSync(known.fd);
  copies.set(path, { version: known.version, fd: undefined });
}

/** As make(1) and others tell whether a file is the same; undefined when there is none. */
function versionOf(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? undefined : [stat.dev, stat.ino, stat.size, stat.mtimeMs, stat.ctimeMs].join(' ');
}

function pathOf(fd: number | undefined): string | undefined {
  return fd === undefined ? undefined : descriptorPath(fd);
}
