import { Worker } from 'node:worker_threads';
import { CrioError, wrap } from '../../base/errors.ts';
import { releaseUnusedMemory } from '../../sys/memory.ts';
import type { LayerFault, LayerToVerify } from './verify-layer.ts';
import type { VerifyReply } from './verify-messages.ts';

/**
 * Verifies layers in a thread of its own, which a disk that hangs may hold up without harm. A layer that is more than its
 * heap can hold ends the thread; the next layer gets a new one.
 */
export class BackgroundVerifier implements AsyncDisposable {
  #worker: Worker | undefined;

  /** One layer at a time. Rejects when the content cannot be looked at for a reason that is none of its own. */
  async verify(layer: LayerToVerify, signal: AbortSignal): Promise<LayerFault | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<LayerFault | undefined>();
    const onReply = (reply: VerifyReply) =>
      reply.type === 'done' ? resolve(reply.fault) : reject(new CrioError('internal', reply.message));
    const onError = (error: unknown) => reject(wrap('verify worker', error, 'internal'));
    const onExit = () => reject(new CrioError('internal', 'verify worker ended'));
    const onAbort = () => reject(signal.reason);
    const worker = (this.#worker ??= this.#start());
    worker.once('message', onReply).once('error', onError).once('exit', onExit);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      worker.postMessage(layer);
      return await promise;
    } finally {
      worker.off('message', onReply).off('error', onError).off('exit', onExit);
      signal.removeEventListener('abort', onAbort);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.terminate();
    await releaseUnusedMemory();
  }

  #start(): Worker {
    const worker = new Worker(new URL('./verify-worker.ts', import.meta.url), {
      name: 'verify',
      trackUnmanagedFds: false,
      resourceLimits: { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 4 },
    });
    const forget = () => {
      if (this.#worker === worker) this.#worker = undefined;
    };
    worker.on('error', forget).on('exit', forget);
    // It keeps nothing alive: the walk is no reason for the process to stay.
    worker.unref();
    return worker;
  }
}
