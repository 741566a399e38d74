import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { CrioError, hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { writeExactIntegers } from '../runtime/spec/exact-integer.ts';
import type { Spec } from '../runtime/spec/oci.ts';

/**
 * Half of the time crun takes to create a container is the compilation of the seccomp profile (18 of 40 ms). It leaves
 * the compiled filter in `<root>/<id>/seccomp.bpf`, and takes it back in this annotation instead of compiling again.
 * crun calls that experimental, so it is used only with versions it was tested with, and checked at every create.
 */
const annotation = 'run.oci.seccomp_bpf_data';
export const testedVersions = /^crun version 1\.8(\.|$)/;

/** A filter is an array of struct sock_filter, linux/filter.h: 8 bytes each, at most BPF_MAXINSNS of them. */
const instructionBytes = 8;
const maxFilterBytes = 4096 * instructionBytes;
const maxFilters = 64;
/** Creations that failed never come back to be taken out. */
const maxPending = 1024;

export interface RuntimeIdentity {
  /** First line of `--version`. */
  readonly version: string;
  /** Path of the program. */
  readonly path: string;
}

interface Pending {
  readonly key: string;
  /** The filter the container was given; undefined when it is compiled anew. */
  readonly used: Buffer | undefined;
  /** With no_new_privs the filter is only loaded when the container is started. */
  readonly isLoadedLate: boolean;
}

/** Compiled seccomp filters, in memory only: nothing on disk could be changed under the daemon. */
export class SeccompCache {
  readonly #log: Logger;
  readonly #filters = new Map<string, Buffer>();
  /** Containers being created, by id. */
  readonly #pending = new Map<string, Pending>();
  #isDisabled = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /**
   * The annotation that hands a finished spec's compiled filter to the runtime; undefined when it is not known yet.
   * Nothing may change `linux.seccomp` afterwards. `created` is to be told when the container is there.
   */
  annotationFor(id: string, spec: Spec, runtime: RuntimeIdentity): Readonly<Record<string, string>> | undefined {
    const seccomp = spec.linux?.seccomp;
    if (this.#isDisabled || seccomp === undefined || !testedVersions.test(runtime.version)) return undefined;
    const key = keyOf(JSON.stringify(seccomp, writeExactIntegers), runtime);
    const used = this.#filters.get(key);
    dropOldest(this.#pending, maxPending);
    this.#pending.set(id, { key, used, isLoadedLate: spec.process?.noNewPrivileges === true });
    return used === undefined ? undefined : { [annotation]: used.toString('base64') };
  }

  /**
   * Learns the filter of a container that was just created, or checks that the one it was given is in force.
   * `stateDirectory` is `<runtime root>/<id>`. Synchronous: the files lie in memory, and nothing may come between.
   * Throws CrioError `internal` when the filter is not in force: the container must not start.
   */
  created(id: string, stateDirectory: string): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    const filter = this.#readFilter(stateDirectory);
    if (pending.used === undefined) {
      if (filter === undefined) return;
      dropOldest(this.#filters, maxFilters);
      this.#filters.set(pending.key, filter);
      return;
    }
    if (filter?.equals(pending.used) === true && (pending.isLoadedLate || initHasFilter(stateDirectory))) return;
    this.#isDisabled = true;
    this.#filters.clear();
    throw new CrioError(
      'internal',
      `check seccomp filter of container ${id}: it is not in force; compiled filters are not used again`,
    );
  }

  /** Undefined when there is none or it is no filter; then the next container is compiled again. */
  #readFilter(stateDirectory: string): Buffer | undefined {
    try {
      const filter = readFileSync(`${stateDirectory}/seccomp.bpf`);
      return isFilter(filter) ? filter : undefined;
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) this.#log.debug(() => `read seccomp filter: ${messageOf(error)}`);
      return undefined;
    }
  }
}

function isFilter(data: Buffer): boolean {
  return data.length > 0 && data.length <= maxFilterBytes && data.length % instructionBytes === 0;
}

function dropOldest<V>(map: Map<string, V>, limit: number): void {
  const oldest = map.keys().next();
  if (map.size >= limit && oldest.done !== true) map.delete(oldest.value);
}

/** crun's own record names the init process; while it waits for `start` the filter is loaded already. */
function initHasFilter(stateDirectory: string): boolean {
  const status: unknown = JSON.parse(readFileSync(`${stateDirectory}/status`, 'utf8'));
  const pid = typeof status === 'object' && status !== null && 'pid' in status ? status.pid : undefined;
  return typeof pid === 'number' && seccompMode(pid) === 2;
}

/** Profile, runtime and libseccomp as files: a package update changes at least one of them. */
function keyOf(profile: string, runtime: RuntimeIdentity): string {
  const hash = createHash('sha256').update(profile);
  for (const path of [runtime.path, findLibseccomp()]) hash.update(`\n${path} ${fileIdentity(path)}`);
  return hash.update(runtime.version).digest('hex');
}

function fileIdentity(path: string): string {
  const info = path === '' ? undefined : statSync(path, { bigint: true, throwIfNoEntry: false });
  return info === undefined ? 'none' : `${info.dev} ${info.ino} ${info.size} ${info.mtimeNs}`;
}

/** The library the runtime is linked with; `` when it has it built in. */
function findLibseccomp(): string {
  const triplets = readdirSync('/usr/lib').filter((name) => name.endsWith('-linux-gnu'));
  for (const directory of [...triplets.map((name) => `/usr/lib/${name}`), '/usr/lib64', '/usr/lib']) {
    try {
      return realpathSync(`${directory}/libseccomp.so.2`);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
  }
  return '';
}

/** 2: a filter is loaded, proc_pid_status(5). Undefined when the process is gone. */
function seccompMode(pid: number): number | undefined {
  try {
    const mode = /^Seccomp:\s*(\d)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
    return mode === undefined ? undefined : Number(mode);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
