import { parentPort } from 'node:worker_threads';
import { CrioError, kindOf, messageOf } from '../../base/errors.ts';
import { TarError } from './tar-header.ts';
import { UnpackJob } from './unpack-job.ts';
import type { UnpackReply, UnpackRequest } from './unpack-messages.ts';

/** The unpack worker: runs jobs side by side, each fed by messages; what a message brings is worked off before the next. */
const port = parentPort;
if (port === null) throw new Error('unpack-worker.ts only runs as a worker');
const jobs = new Map<number, UnpackJob>();

port.on('message', (request: UnpackRequest) => {
  try {
    handle(request);
  } catch (error) {
    const kind = error instanceof TarError ? 'invalid' : kindOf(error);
    finish({ type: 'failed', job: request.job, message: messageOf(error), kind });
  }
});

function handle(request: UnpackRequest): void {
  const { job } = request;
  if (request.type === 'start') {
    jobs.set(job, new UnpackJob({ ...request, warn: (message) => reply({ type: 'warning', job, message }) }));
    return;
  }
  const unpack = jobs.get(job);
  // Pieces of a job that has failed are still on their way.
  if (unpack === undefined) return;
  switch (request.type) {
    case 'chunk':
      unpack.push(Buffer.from(request.data.buffer, request.data.byteOffset, request.data.byteLength));
      // The memory goes back, to be filled again.
      reply({ type: 'taken', job, data: request.data }, [request.data.buffer]);
      break;
    case 'end':
      finish({ type: 'done', job, content: unpack.end() });
      break;
    case 'abort':
      throw new CrioError('canceled', 'canceled');
  }
}

function finish(last: UnpackReply): void {
  jobs.get(last.job)?.[Symbol.dispose]();
  jobs.delete(last.job);
  reply(last);
}

function reply(message: UnpackReply, transfer: ArrayBuffer[] = []): void {
  port?.postMessage(message, transfer);
}
