import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { CrioError, messageOf, wrap } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { releaseUnusedMemory } from '../../sys/memory.ts';
import { startNicely } from '../../sys/priority.ts';
import type { UnpackedContent } from '../staged-layer.ts';
import type { WhiteoutForm } from './place-entry.ts';
import type { UnpackReply, UnpackRequest } from './unpack-messages.ts';

const chunkSize = 256 * 1024;
/** Chunks of a job that may be on their way to a worker. */
const window = 3;
const idleMs = 2000;
/** Each takes about 25 MB while it works. */
const maxWorkers = 3;
/** The main thread answers kubelet at the same time, perhaps on the same core. */
const workerNice = 5;

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
  try {
    await Promise.race([pump(iterator, job), job.failed, aborted.promise]);
  } catch (error) {
    // Not awaited: a blob that hangs must not keep the failure from its caller.
    void iterator.return?.().catch(() => undefined);
    throw error;
  }
}

/** Pieces of whatever size become chunks: a chunk's memory can be moved to the worker, and a piece is free at once. */
async function pump(pieces: AsyncIterator<Uint8Array>, job: UnpackJobHandle): Promise<void> {
  let chunk: Uint8Array<ArrayBuffer> | undefined;
  let filled = 0;
  for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) {
    const piece = next.value;
    for (let at = 0; at < piece.length;) {
      chunk ??= await job.emptyChunk();
      const part = piece.subarray(at, at + chunk.length - filled);
      chunk.set(part, filled);
      at += part.length;
      filled += part.length;
      if (filled < chunk.length) continue;
      job.send(chunk);
      chunk = undefined;
      filled = 0;
    }
  }
  if (chunk !== undefined) job.send(chunk.subarray(0, filled));
  job.end();
}

function rejectOnAbort(signal: AbortSignal): Disposable & { readonly promise: Promise<never> } {
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => undefined);
  const onAbort = () => reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  return { promise, [Symbol.dispose]: () => signal.removeEventListener('abort', onAbort) };
}

interface UnpackJobHandle {
  /** Memory to fill and send; resolves when the worker has not too much to do. */
  emptyChunk(): Promise<Uint8Array<ArrayBuffer>>;
  send(chunk: Uint8Array<ArrayBuffer>): void;
  end(): void;
  abort(): void;
  readonly result: Promise<UnpackedContent>;
  /** Rejects when the job fails; never resolves. */
  readonly failed: Promise<never>;
}

interface RunningJob {
  chunks: number;
  readonly empty: Uint8Array<ArrayBuffer>[];
  wanted: ((chunk: Uint8Array<ArrayBuffer>) => void) | undefined;
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
    this.#worker = startNicely(
      workerNice,
      () =>
        new Worker(new URL('./unpack-worker.ts', import.meta.url), {
          name: 'unpack',
          // Descriptors that native calls opened are closed by Node's: its book-keeping would warn for each.
          trackUnmanagedFds: false,
          resourceLimits: { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 4 },
        }),
    );
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
    const job: RunningJob = {
      chunks: 0,
      empty: [],
      wanted: undefined,
      onUnpacked: task.onUnpacked,
      resolve,
      reject,
    };
    this.#jobs.set(id, job);
    this.#worker.ref();
    const { diffFolder, tarSplit, whiteouts } = task;
    this.#post({ type: 'start', job: id, diffFolder, tarSplit, whiteouts });
    const failed = new Promise<never>((_, fail) => result.catch(fail));
    failed.catch(() => undefined);
    return {
      result,
      failed,
      emptyChunk: () => emptyChunk(job),
      send: (data) => this.#post({ type: 'chunk', job: id, data }, [data.buffer]),
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
    else if (reply.type === 'taken') takeBack(job, reply.data);
    else {
      this.#jobs.delete(reply.job);
      if (this.#jobs.size === 0) this.#rest();
      if (reply.type === 'done') job.resolve(reply.content);
      else job.reject(new CrioError(reply.kind, reply.message));
    }
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

function emptyChunk(job: RunningJob): Promise<Uint8Array<ArrayBuffer>> {
  const known = job.empty.pop();
  if (known !== undefined) return Promise.resolve(known);
  if (job.chunks < window) {
    job.chunks += 1;
    return Promise.resolve(new Uint8Array(chunkSize));
  }
  return new Promise((resolve) => (job.wanted = resolve));
}

function takeBack(job: RunningJob, data: Uint8Array<ArrayBuffer>): void {
  job.onUnpacked?.(data.length);
  const chunk = new Uint8Array(data.buffer);
  if (job.wanted === undefined) job.empty.push(chunk);
  else job.wanted(chunk);
  job.wanted = undefined;
}
