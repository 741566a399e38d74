import { Worker } from 'node:worker_threads';
import { CrioError } from '../base/errors.ts';

/** Runs in the thread; as text, so that it works from the bundle too. */
const program = `
const { lstatSync, mkdirSync, realpathSync } = require('node:fs');
const { parentPort } = require('node:worker_threads');
const verbs = {
  follow: (path) => (lstatSync(path).isSymbolicLink() ? realpathSync(path) : path),
  make: (path) => (mkdirSync(path, { recursive: true, mode: 0o755 }), path),
};
parentPort.on('message', ({ verb, path }) => {
  try {
    parentPort.postMessage({ result: verbs[verb](path) });
  } catch (error) {
    parentPort.postMessage({ error: { message: error.message, code: error.code ?? '' } });
  }
});
`;

type Answer = { readonly result: string } | { readonly error: { readonly message: string; readonly code: string } };

/**
 * Threads for file operations that may hang. One that does not answer is given up (nothing can end it) and never asked
 * again; an idle one is kept for the next question.
 */
export class SpareThreads {
  readonly #timeoutMs: number;
  #idle: Worker | undefined;

  constructor(timeoutMs = 20_000) {
    this.#timeoutMs = timeoutMs;
  }

  /** Throws errors with `code` as node:fs does, and CrioError `deadline` when there is no answer in time. */
  async run(verb: 'follow' | 'make', path: string): Promise<string> {
    const worker = this.#idle ?? new Worker(program, { eval: true });
    this.#idle = undefined;
    worker.ref();
    worker.postMessage({ verb, path });
    try {
      const answer = await answerOf(worker, this.#timeoutMs, path);
      if (this.#idle === undefined) this.#idle = worker;
      else await worker.terminate();
      if ('result' in answer) return answer.result;
      throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
    } finally {
      worker.unref();
    }
  }
}

function answerOf(worker: Worker, timeoutMs: number, path: string): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const timer = setTimeout(
    () => reject(new CrioError('deadline', `look at "${path}": its file system does not answer`)),
    timeoutMs,
  );
  worker.once('message', resolve).once('error', reject);
  return promise.finally(() => {
    clearTimeout(timer);
    worker.removeListener('message', resolve).removeListener('error', reject);
  });
}
