import { availableParallelism } from 'node:os';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Call } from '../base/call.ts';
import { CrioError, hasCode } from '../base/errors.ts';
import { run } from '../sys/run.ts';
import { attach } from './attach.ts';
import { retryWhileBinaryIsBusy } from './busy-binary.ts';
import { callRuntime, exitText, globalArgs, pinned, timeout } from './command.ts';
import type { RuntimeCommand } from './command.ts';
import { createWithConmon } from './conmon.ts';
import type { MonitorSettings } from './conmon.ts';
import { execStream } from './exec-stream.ts';
import { execSync } from './exec-sync.ts';
import { Limiter } from './limiter.ts';
import { reopenLog } from './reopen-log.ts';
import type { ContainerRuntime, CreateOptions, CreatedProcess, RuntimeFeatures, RuntimeState } from './runtime.ts';
import { writeExactIntegers } from './spec/exact-integer.ts';
import type { LinuxResources } from './spec/oci.ts';
import { parseRuntimeState } from './state.ts';

export interface OciRuntimeOptions {
  readonly command: RuntimeCommand;
  readonly monitor: MonitorSettings;
  readonly features: RuntimeFeatures;
  /** Pids of all processes of a container now. */
  readonly processesOf: (id: string) => readonly number[];
  /**
   * After each successful creation, with the runtime's directory of the container (crun leaves `seccomp.bpf` there).
   * When it throws, the container is deleted again and the creation fails.
   */
  readonly onCreated?: ((id: string, stateDir: string) => void) | undefined;
  readonly limits?: Partial<RuntimeLimits> | undefined;
}

/**
 * ms. A runtime that hangs (a FUSE mount, a frozen cgroup) would keep its container locked for good, so each verb has a
 * limit; it lies far above what a busy node needs, and hooks run within it.
 */
export interface RuntimeLimits {
  readonly start: number;
  readonly delete: number;
  readonly other: number;
}

const defaultLimits: RuntimeLimits = { start: 240_000, delete: 120_000, other: 30_000 };

/** More creations at once than about twice the cores only make each slower; shared by all handlers. */
const creations = new Limiter(availableParallelism() * 2);

/** An OCI runtime (crun, runc) under conmon. */
export function createOciRuntime(options: OciRuntimeOptions): ContainerRuntime {
  const { command, monitor, features, processesOf } = options;
  const execs = { command, processesOf };
  const limits = { ...defaultLimits, ...options.limits };
  return {
    handler: command.handler,
    features,
    create: (call, create) => retryWhileBinaryIsBusy(call, () => createContainer(call, options, create)),
    start: async (_call, id) => void (await callRuntime(command, { verb: 'start', id, timeoutMs: limits.start })),
    kill: (_call, id, signal, { all = false } = {}) =>
      killContainer(command, id, { signal, all, timeoutMs: limits.other }),
    delete: (_call, id) => deleteContainer(command, id, limits.delete),
    state: (_call, id) => readState(command, id, limits.other),
    pause: async (_call, id) => void (await callRuntime(command, { verb: 'pause', id, timeoutMs: limits.other })),
    resume: async (_call, id) => void (await callRuntime(command, { verb: 'resume', id, timeoutMs: limits.other })),
    update: (_call, id, resources) => updateContainer(command, id, { resources, timeoutMs: limits.other }),
    execSync: (call, exec) => retryWhileBinaryIsBusy(call, () => execSync(call, execs, exec)),
    execStream: (call, exec) => retryWhileBinaryIsBusy(call, () => execStream(call, execs, exec)),
    attach: (call, { id, bundle }) => attach(call.log, join(monitor.attachSocketDir, id, 'attach'), bundle),
    reopenLog: (call, reopen) => reopenLog(call, reopen),
  };

  async function createContainer(
    call: Call,
    { onCreated }: OciRuntimeOptions,
    create: CreateOptions,
  ): Promise<CreatedProcess> {
    return creations.run(call.signal, async () => {
      try {
        const created = await createWithConmon(call, command, monitor, create);
        onCreated?.(create.id, join(command.root, create.id));
        return created;
      } catch (error) {
        await deleteAfterFailure(call, command, { id: create.id, timeoutMs: limits.delete });
        throw error;
      }
    });
  }
}

/** The first error is the one to report. */
async function deleteAfterFailure(
  call: Call,
  command: RuntimeCommand,
  { id, timeoutMs }: { id: string; timeoutMs: number },
): Promise<void> {
  try {
    await deleteContainer(command, id, timeoutMs);
  } catch (error) {
    call.log.warn(`delete container ${id} after its creation failed`, error);
  }
}

async function killContainer(
  command: RuntimeCommand,
  id: string,
  { signal, all, timeoutMs }: { signal: number; all: boolean; timeoutMs: number },
): Promise<void> {
  // Old crun takes any word for a signal and then sends something else.
  if (!Number.isInteger(signal) || signal < 1 || signal > 64) {
    throw new CrioError('invalid', `signal "${signal}": not a signal number`);
  }
  const options = all ? ['-a'] : [];
  await ignoreGone(callRuntime(command, { verb: 'kill', id, options, operands: [String(signal)], timeoutMs }));
}

async function deleteContainer(command: RuntimeCommand, id: string, timeoutMs: number): Promise<void> {
  await ignoreGone(callRuntime(command, { verb: 'delete', id, options: ['--force'], timeoutMs }));
}

async function ignoreGone(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof CrioError && error.kind === 'not-found')) throw error;
  }
}

/** Error texts change with every version, so whether the container is known is asked of the runtime's directory. */
async function readState(command: RuntimeCommand, id: string, timeoutMs: number): Promise<RuntimeState | undefined> {
  try {
    await stat(join(command.root, id));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
  return parseRuntimeState(await callRuntime(command, { verb: 'state', id, timeoutMs }));
}

/** The text of a failure is CRI-O's. */
async function updateContainer(
  command: RuntimeCommand,
  id: string,
  { resources, timeoutMs }: { resources: LinuxResources; timeoutMs: number },
): Promise<void> {
  const args = [...globalArgs(command, { withCgroupManager: false }), 'update', '--resources', '-', id];
  const input = JSON.stringify(withoutUnset(resources), writeExactIntegers);
  const result = await run({ ...pinned(command, command.path, args), env: command.env, input, timeoutMs });
  if (result.code === 0) return;
  if (result.timedOut) throw timeout(command, { verb: 'update', id, timeoutMs });
  const output = `${result.stderr.toString().trim()} ${result.stdout.toString().trim()}`.trim();
  throw new CrioError('unknown', `updating resources for container "${id}" failed: ${output}: ${exitText(result)}`);
}

/**
 * 0 means "not set" in these fields; runc skips them, crun 1.8.1 writes them and fails. What is left out keeps its value.
 */
export function withoutUnset(resources: LinuxResources): LinuxResources {
  const { memory, cpu } = resources;
  return {
    ...resources,
    ...(memory === undefined ? {} : { memory: dropZeros(memory, ['limit', 'reservation', 'swap']) }),
    ...(cpu === undefined ? {} : { cpu: dropZeros(cpu, ['shares', 'quota', 'period']) }),
  };
}

function dropZeros<T extends object>(values: T, names: readonly (keyof T)[]): T {
  const kept = { ...values };
  for (const name of names) if (kept[name] === 0) delete kept[name];
  return kept;
}
