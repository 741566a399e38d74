import { execFileSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { connect } from 'node:net';
import { setPriority } from 'node:os';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const everyMs = 10;
/** Its own code is not compiled yet in its first calls. */
const warmUps = 100;
const emptyMessage = Buffer.alloc(5);

export interface ListTimes {
  /** Ends the asking and gives the time of each answer, ms. */
  stop(): Promise<readonly number[]>;
}

/** Asks for all containers every 10 ms, from a thread that does nothing else. */
export async function watchListTimes(socket: string): Promise<ListTimes> {
  const worker = new Worker(new URL(import.meta.url), { workerData: socket });
  const failed = new Promise<never>((_, reject) => worker.once('error', reject));
  failed.catch(() => undefined);
  const next = <T>(): Promise<T> =>
    Promise.race([failed, new Promise<T>((resolve) => worker.once('message', resolve))]);
  await next();
  return {
    stop: async () => {
      const times = next<readonly number[]>();
      worker.postMessage('stop');
      return times;
    },
  };
}

/**
 * What is measured is the daemon, so the one that asks costs it as little as can be: it waits for no core (sched(7),
 * SCHED_FIFO), and takes the answer's bytes as they are, without a gRPC library that would decode them on the same two cores.
 */
async function ask(socket: string): Promise<void> {
  const session = connectHttp2('http://localhost', { createConnection: () => connect(socket) });
  for (let count = 0; count < warmUps; count++) await listContainers(session);
  waitForNoCore();
  let isOver = false;
  parentPort?.once('message', () => (isOver = true));
  parentPort?.postMessage('ready');
  const times: number[] = [];
  for (let next = performance.now(); !isOver; next += everyMs) {
    await sleep(Math.max(0, next - performance.now()));
    const begin = performance.now();
    await listContainers(session);
    times.push(performance.now() - begin);
  }
  parentPort?.postMessage(times);
  session.close();
}

/** Where a control group has no share of real time (sched(7)), a high priority has to do. */
function waitForNoCore(): void {
  try {
    execFileSync('chrt', ['--fifo', '--pid', '1', basename(readlinkSync('/proc/thread-self'))], { stdio: 'ignore' });
  } catch {
    setPriority(0, -10);
  }
}

/** From the request's first byte to the answer's last. */
function listContainers(session: ClientHttp2Session): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/runtime.v1.RuntimeService/ListContainers',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    let status: unknown;
    let bytes = 0;
    stream.on('error', reject);
    stream.on('close', () => reject(new Error('ListContainers: the stream was closed')));
    stream.on('trailers', (trailers) => (status = trailers['grpc-status']));
    stream.on('data', (data: Buffer) => (bytes += data.length));
    stream.on('end', () => {
      if (status === '0' && bytes > emptyMessage.length) resolve();
      else reject(new Error(`ListContainers: grpc-status ${String(status)}, ${bytes} bytes`));
    });
    stream.end(emptyMessage);
  });
}

if (!isMainThread) await ask(String(workerData));
