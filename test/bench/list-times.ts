import { setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { connect } from '../client/client.ts';

const everyMs = 10;
/** What is measured is the daemon: the one that asks shall not wait for a core itself. */
const nice = -10;
/** Its own code is not compiled yet in its first calls. */
const warmUps = 100;

export interface ListTimes {
  /** Ends the asking and gives the time of each answer, ms. */
  stop(): Promise<readonly number[]>;
}

/** Asks for all containers every 10 ms, from a thread that does nothing else. */
export async function watchListTimes(socket: string): Promise<ListTimes> {
  const worker = new Worker(new URL(import.meta.url), { workerData: socket });
  const next = <T>(): Promise<T> =>
    new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
  await next();
  return {
    stop: async () => {
      const times = next<readonly number[]>();
      worker.postMessage('stop');
      return times;
    },
  };
}

async function ask(socket: string): Promise<void> {
  // Of this thread alone.
  setPriority(0, nice);
  using client = connect(socket);
  for (let count = 0; count < warmUps; count++) await client.runtime.listContainers();
  let isOver = false;
  parentPort?.once('message', () => (isOver = true));
  parentPort?.postMessage('ready');
  const times: number[] = [];
  for (let next = performance.now(); !isOver; next += everyMs) {
    await sleep(Math.max(0, next - performance.now()));
    const begin = performance.now();
    await client.runtime.listContainers();
    times.push(performance.now() - begin);
  }
  parentPort?.postMessage(times);
}

if (!isMainThread) await ask(String(workerData));
