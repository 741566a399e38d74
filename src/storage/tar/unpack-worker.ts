import { parentPort } from 'node:worker_threads';
import { CrioError, kindOf, messageOf } from '../../base/errors.ts';
import { TarError } from './tar-header.ts';
import { UnpackJob } from './unpack-job.ts';
import type { UnpackReply, UnpackRequest } from './unpack-messages.ts';

/**
 * The unpack worker: runs jobs side by side, each fed by messages. A job's messages are handled in order, one at a time.
 */
const port = parentPort;
if (port === null) throw new Error('unpack-worker.ts only runs as a worker');
const queues = new Map<number, JobQueue>();

port.on('message', (request: UnpackRequest) => {
  let queue = queues.get(request.job);
  if (queue === undefined) {
    // Pieces of a job that has failed are still on their way.
    if (request.type !== 'start') return;
    queue = new JobQueue(request.job, (reply) => port.postMessage(reply));
    queues.set(request.job, queue);
  }
  queue.add(request);
});

class JobQueue {
  readonly #job: number;
  readonly #reply: (reply: UnpackReply) => void;
  readonly #requests: UnpackRequest[] = [];
  #unpack: UnpackJob | undefined;
  #isRunning = false;
  #isOver = false;

  constructor(job: number, reply: (reply: UnpackReply) => void) {
    this.#job = job;
    this.#reply = reply;
  }

  add(request: UnpackRequest): void {
    this.#requests.push(request);
    if (!this.#isRunning) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (let request = this.#requests.shift(); request !== undefined; request = this.#requests.shift()) {
      if (this.#isOver) continue;
      try {
        await this.#handle(request);
      } catch (error) {
        const kind = error instanceof TarError ? 'invalid' : kindOf(error);
        this.#finish({ type: 'failed', job: this.#job, message: messageOf(error), kind });
      }
    }
    this.#isRunning = false;
  }

  async #handle(request: UnpackRequest): Promise<void> {
    const job = this.#job;
    switch (request.type) {
      case 'start':
        this.#unpack = new UnpackJob({ ...request, warn: (message) => this.#reply({ type: 'warning', job, message }) });
        break;
      case 'chunk': {
        const { buffer, byteOffset, byteLength } = request.data;
        await this.#unpack?.push(Buffer.from(buffer, byteOffset, byteLength));
        this.#reply({ type: 'taken', job, bytes: byteLength });
        break;
      }
      case 'end':
        if (this.#unpack !== undefined) this.#finish({ type: 'done', job, content: await this.#unpack.end() });
        break;
      case 'abort':
        throw new CrioError('canceled', 'canceled');
    }
  }

  #finish(reply: UnpackReply): void {
    this.#isOver = true;
    this.#unpack?.[Symbol.dispose]();
    this.#unpack = undefined;
    queues.delete(this.#job);
    this.#reply(reply);
  }
}
