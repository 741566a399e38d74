import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { CrioError, messageOf, wrap } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { releaseUnusedMemory } from '../../sys/memory.ts';
import type { UnpackedContent } from '../staged-layer.ts';
import type { WhiteoutForm } from './place-entry.ts';
import type { UnpackReply, UnpackRequest } from './unpack-messages.ts';

/** Bytes of a job that may be on their way to a worker. */
const window = 1024 * 1024;
const chunkSize = 256 * 1024;
const idleMs = 2000;
const maxWorkers = 2;

export interface UnpackTask {
  readonly diffFolder: string;
  readonly tarSplit: string;
  readonly whiteouts: WhiteoutForm;
  readonly blob: AsyncIterable<Uint8Array>;
  /** Told how many more bytes of the blob are unpacked. */
  readonly onUnpacked?: ((bytes: number) => void) | undefined;
  readonly signal: AbortSignal;
}

/** Workers that unpack layers: started when there is work, ended when there is none, as each costs some megabytes. */
export class UnpackPool implements AsyncDisposable {
  readonly #log: Logger;
  readonly #workers = new Set<UnpackWorker>();
  #nextJob = 1;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Feeds a blob to a worker. When this rejects, no file of the task is open any more. */
  async unpack(task: UnpackTask): Promise<UnpackedContent> {
    const worker = this.#pick();
    const job = worker.start(this.#nextJob++, task);
    try {
      await feed(job, task);
    } catch (error) {
      job.abort();
      const outcome = await job.result.then(
        () => undefined,
        (failure: unknown) => failure,
      );
      // The worker's own error says more than that of a blob that was cut off for it.
      throw outcome instanceof CrioError && outcome.kind !== 'canceled' ? outcome : error;
    }
    return job.result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#workers].map((worker) => worker.stop()));
  }

  /** The one with the least to do; a new one while there are fewer than cores. */
  #pick(): UnpackWorker {
    let best: UnpackWorker | undefined;
    for (const worker of this.#workers) if (best === undefined || worker.jobs < best.jobs) best = worker;
    if (best !== undefined && (best.jobs === 0 || this.#workers.size >= Math.min(maxWorkers, availableParallelism())))
      return best;
    const worker = new UnpackWorker({ log: this.#log, onEnd: () => this.#workers.delete(worker) });
    this.#workers.add(worker);
    return worker;
  }
}

async function feed(job: UnpackJobHandle, task: UnpackTask): Promise<void> {
  using aborted = rejectOnAbort(task.signal);
  const iterator = task.blob[Symbol.asyncIterator]();
  let pending: Uint8Array[] = [];
  let length = 0;
  const flush = async () => {
    if (length > 0) await Promise.race([job.send(joined(pending, length)), aborted.promise]);
    pending = [];
    length = 0;
  };
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), job.failed, aborted.promise]);
      if (next.done === true) break;
      pending.push(next.value);
      length += next.value.length;
      if (length >= chunkSize) await flush();
    }
    await flush();
    job.end();
  } catch (error) {
    // Not awaited: a blob that hangs must not keep the failure from its caller.
    void iterator.return?.().catch(() => undefined);
    throw error;
  }
}

function rejectOnAbort(signal: AbortSignal): Disposable & { readonly promise: Promise<never> } {
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => undefined);
  const onAbort = () => reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  return { promise, [Symbol.dispose]: () => signal.removeEventListener('abort', onAbort) };
}

/** A copy in memory of its own, which can be moved to the worker. */
function joined(parts: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return data;
}

interface UnpackJobHandle {
  /** Resolves when more may be sent. */
  send(data: Uint8Array<ArrayBuffer>): Promise<void>;
  end(): void;
  abort(): void;
  readonly result: Promise<UnpackedContent>;
  /** Rejects when the job fails; never resolves. */
  readonly failed: Promise<never>;
}

interface RunningJob {
  inFlight: number;
  room: (() => void) | undefined;
  readonly onUnpacked: ((bytes: number) => void) | undefined;
  readonly resolve: (content: UnpackedContent) => void;
  readonly reject: (error: unknown) => void;
}

class UnpackWorker {
  readonly #worker: Worker;
  readonly #log: Logger;
  readonly #jobs = new Map<number, RunningJob>();
  #idle: NodeJS.Timeout | undefined;
  readonly #ended: Promise<void>;
  readonly #onEnd: () => void;

  constructor(options: { log: Logger; onEnd: () => void }) {
    this.#log = options.log;
    this.#onEnd = options.onEnd;
    this.#worker = new Worker(new URL('./unpack-worker.ts', import.meta.url), {
      name: 'unpack',
      // Descriptors that native calls opened are closed by Node's: its book-keeping would warn for each.
      trackUnmanagedFds: false,
      resourceLimits: { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 4 },
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    let cause: unknown = new CrioError('internal', 'unpack worker ended');
    this.#worker.on('message', (reply: UnpackReply) => this.#onReply(reply));
    this.#worker.on('error', (error) => (cause = wrap('unpack worker', error, 'internal')));
    this.#worker.on('exit', () => {
      options.onEnd();
      for (const job of this.#jobs.values()) job.reject(cause);
      this.#jobs.clear();
      resolve();
    });
  }

  get jobs(): number {
    return this.#jobs.size;
  }

  start(id: number, task: UnpackTask): UnpackJobHandle {
    clearTimeout(this.#idle);
    const { promise: result, resolve, reject } = Promise.withResolvers<UnpackedContent>();
    const job: RunningJob = { inFlight: 0, room: undefined, onUnpacked: task.onUnpacked, resolve, reject };
    this.#jobs.set(id, job);
    this.#worker.ref();
    const { diffFolder, tarSplit, whiteouts } = task;
    this.#post({ type: 'start', job: id, diffFolder, tarSplit, whiteouts });
    const failed = new Promise<never>((_, fail) => result.catch(fail));
    failed.catch(() => undefined);
    return {
      result,
      failed,
      send: async (data) => {
        job.inFlight += data.length;
        this.#post({ type: 'chunk', job: id, data }, [data.buffer]);
        if (job.inFlight > window) await Promise.race([new Promise<void>((wake) => (job.room = wake)), failed]);
      },
      end: () => this.#post({ type: 'end', job: id }),
      abort: () => this.#post({ type: 'abort', job: id }),
    };
  }

  async stop(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#worker.terminate();
    await this.#ended;
  }

  #post(request: UnpackRequest, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(request, transfer);
  }

  #onReply(reply: UnpackReply): void {
    const job = this.#jobs.get(reply.job);
    if (job === undefined) return;
    if (reply.type === 'warning') this.#log.warn(reply.message);
    else if (reply.type === 'taken') this.#taken(job, reply.bytes);
    else {
      this.#jobs.delete(reply.job);
      if (this.#jobs.size === 0) this.#rest();
      if (reply.type === 'done') job.resolve(reply.content);
      else job.reject(new CrioError(reply.kind, reply.message));
    }
  }

  #taken(job: RunningJob, bytes: number): void {
    job.inFlight -= bytes;
    job.onUnpacked?.(bytes);
    if (job.inFlight > window) return;
    job.room?.();
    job.room = undefined;
  }

  /** Without work it keeps nothing alive, and ends soon. */
  #rest(): void {
    this.#worker.unref();
    this.#idle = setTimeout(() => void this.#endIdle(), idleMs);
    this.#idle.unref();
  }

  /** The memory it used would stay with the allocator of the process for good. */
  async #endIdle(): Promise<void> {
    // From now on nobody may give it work.
    this.#onEnd();
    try {
      await this.stop();
      await releaseUnusedMemory();
    } catch (error) {
      this.#log.debug(`end unpack worker: ${messageOf(error)}`);
    }
  }
}
