import type { Call } from '../base/call.ts';
import { CrioError } from '../base/errors.ts';
import type { Process } from '../runtime/spec/oci.ts';
import { runtimeFor, type Context } from './context.ts';
import type { Entry } from './store.ts';

/** CRI-O's bound for what is kept of the output; and the largest message that the kubelet and crictl take. */
const maxMessageBytes = 16 * 1024 * 1024;
/** For the rest of the answer. */
const messageMarginBytes = 64 * 1024;

export interface ExecSyncRequest {
  readonly command: readonly string[];
  /** 0: none */
  readonly timeoutMs: number;
}

export interface ExecSyncOutput {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly exitCode: number;
}

/** Runs a command in a container to its end. A timeout is no error: exit code -1 and CRI-O's text. */
export async function execSync(
  context: Context,
  call: Call,
  idOrPrefix: string,
  request: ExecSyncRequest,
): Promise<ExecSyncOutput> {
  const entry = context.index.require(idOrPrefix);
  if (request.command.length === 0) throw new CrioError('unknown', 'exec command cannot be empty');
  const { process } = requireExecutable(entry);
  const result = await runtimeFor(context, entry.container.runtimeHandler).execSync(call, {
    id: entry.container.id,
    process: { ...process, args: [...request.command], terminal: entry.container.terminal },
    timeoutMs: request.timeoutMs,
    maxOutputBytes: maxOutputBytes(context.config().api.grpcMaxSendMsgSize),
    cpus: entry.container.spec.linux?.resources?.cpu?.cpus,
  });
  if (!result.timedOut) return result;
  return { stdout: new Uint8Array(), stderr: Buffer.from('command timed out'), exitCode: -1 };
}

/** Of both outputs together, so that the answer is one that the daemon sends and its clients take. */
export function maxOutputBytes(maxSentBytes: number): number {
  return Math.max(0, Math.min(maxMessageBytes, maxSentBytes) - messageMarginBytes);
}

/** The process that a command is modelled after. Texts are CRI-O's. */
export function requireExecutable({ container, isBeingKilled }: Entry): { process: Process } {
  const { state, spec } = container;
  const process: Process | undefined = spec.process;
  const isUp = state.status === 'created' || state.status === 'running';
  if (!isUp || state.init === undefined || process === undefined) {
    throw new CrioError('not-found', `container is not created or running: ${container.id} is ${state.status}`);
  }
  if (isBeingKilled) throw new CrioError('unknown', 'cannot start exec: container is being killed');
  return { process };
}
