import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
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
const testedVersions = /^crun version 1\.8(\.|$)/;

/** A filter is an array of struct sock_filter, linux/filter.h: 8 bytes each, at most BPF_MAXINSNS of them. */
const instructionBytes = 8;
const maxFilterBytes = 4096 * instructionBytes;
const maxFilters = 64;

export interface RuntimeIdentity {
  /** First line of `--version`. */
  readonly version: string;
  /** Path of the program. */
  readonly path: string;
}

export interface CreatedContainer {
  readonly id: string;
  /** `<runtime root>/<id>` */
  readonly stateDirectory: string;
  readonly initPid: number;
}

/** Compiled seccomp filters, in memory only: nothing on disk could be changed under the daemon. */
export class SeccompCache {
  readonly #log: Logger;
  readonly #filters = new Map<string, Buffer>();
  /** Containers being created, by id. */
  readonly #pending = new Map<
    string,
    { readonly key: string; readonly used: Buffer | undefined; readonly isLate: boolean }
  >();
  #isDisabled = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /**
   * Adds the compiled filter to a finished spec when it is known. Nothing may change `linux.seccomp` afterwards.
   * Each call is followed by `created` or `failed` for the same id.
   */
  addFilter(id: string, spec: Spec, runtime: RuntimeIdentity): Spec {
    const seccomp = spec.linux?.seccomp;
    if (this.#isDisabled || seccomp === undefined || !testedVersions.test(runtime.version)) return spec;
    const key = keyOf(JSON.stringify(seccomp, writeExactIntegers), runtime);
    const used = this.#filters.get(key);
    // with no_new_privs the filter is only loaded when the container is started
    this.#pending.set(id, { key, used, isLate: spec.process?.noNewPrivileges === true });
    if (used === undefined) return spec;
    return { ...spec, annotations: { ...spec.annotations, [annotation]: used.toString('base64') } };
  }

  /**
   * Learns the filter of a container that was just created, or checks that the one it was given is in force.
   * Throws CrioError `internal` when it is not: the container must not start.
   */
  async created(container: CreatedContainer): Promise<void> {
    const pending = this.#pending.get(container.id);
    if (pending === undefined) return;
    this.#pending.delete(container.id);
    const filter = await this.#readFilter(container);
    if (pending.used === undefined) {
      if (filter !== undefined) this.#learn(pending.key, filter);
      return;
    }
    const isInForce = filter?.equals(pending.used) === true && (pending.isLate || seccompMode(container.initPid) === 2);
    if (isInForce) return;
    this.#isDisabled = true;
    this.#filters.clear();
    throw new CrioError(
      'internal',
      `container ${container.id} was created without its compiled seccomp filter; it will not be used again`,
    );
  }

  failed(id: string): void {
    this.#pending.delete(id);
  }

  #learn(key: string, filter: Buffer): void {
    const oldest = this.#filters.keys().next();
    if (this.#filters.size >= maxFilters && oldest.done !== true) this.#filters.delete(oldest.value);
    this.#filters.set(key, filter);
  }

  /** Undefined when there is none or it is no filter; then the next container is compiled again. */
  async #readFilter({ id, stateDirectory }: CreatedContainer): Promise<Buffer | undefined> {
    try {
      await using file = await open(`${stateDirectory}/seccomp.bpf`);
      const { size } = await file.stat();
      if (size === 0 || size > maxFilterBytes || size % instructionBytes !== 0) return undefined;
      return await file.readFile();
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) this.#log.debug(() => `read seccomp filter of ${id}: ${messageOf(error)}`);
      return undefined;
    }
  }
}

/** Profile, runtime and libseccomp as files: a package update changes at least one of them. */
function keyOf(profile: string, runtime: RuntimeIdentity): string {
  const hash = createHash('sha256').update(profile);
  for (const path of [runtime.path, findLibseccomp()]) hash.update(`\n${path} ${fileIdentity(path)}`);
  return hash.update(runtime.version).digest('hex');
}

function fileIdentity(path: string): string {
  if (path === '') return 'none';
  const { dev, ino, size, mtimeNs } = statSync(path, { bigint: true });
  return `${dev} ${ino} ${size} ${mtimeNs}`;
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
