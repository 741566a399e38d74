import { readdir, readFile } from 'node:fs/promises';
import { memoryUsage, cpuUsage, uptime } from 'node:process';
import type * as prom from 'prom-client';
import type { Registry } from 'prom-client';
import { getNoFileLimit, listPids, processState } from '../sys/process.ts';

type PromClient = typeof prom;

/**
 * The process collector of Prometheus's client libraries, and Node's heap in place of Go's. prom-client's own one is not
 * used: it measures the event loop with a timer that wakes an idle daemon a hundred times a second.
 */
export function createProcessMetrics({ client, registry }: { client: PromClient; registry: Registry }): void {
  const startTimeSeconds = Date.now() / 1000 - uptime();
  const gauge = (name: string, help: string, read: () => number | Promise<number>) => {
    void new client.Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        this.set(await read());
      },
    });
  };
  void new client.Counter({
    name: 'process_cpu_seconds_total',
    help: 'Total user and system CPU time spent in seconds.',
    registers: [registry],
    collect() {
      const { user, system } = cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  gauge('process_resident_memory_bytes', 'Resident memory size in bytes.', () => memoryUsage.rss());
  gauge('process_virtual_memory_bytes', 'Virtual memory size in bytes.', virtualBytes);
  gauge(
    'process_open_fds',
    'Number of open file descriptors.',
    async () => (await readdir('/proc/self/fd')).length - 1,
  );
  gauge('process_max_fds', 'Maximum number of open file descriptors.', () => Number(getNoFileLimit().soft));
  gauge('process_start_time_seconds', 'Start time of the process since unix epoch in seconds.', () => startTimeSeconds);
  gauge('nodejs_heap_size_used_bytes', 'Bytes of the heap that are in use.', () => memoryUsage().heapUsed);
  gauge('nodejs_heap_size_total_bytes', 'Bytes of the heap.', () => memoryUsage().heapTotal);
}

async function virtualBytes(): Promise<number> {
  const kib = /^VmSize:\s+(\d+) kB$/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1];
  return Number(kib ?? 0) * 1024;
}

/** Looked at before others get their turn: below 1 ms. */
const batch = 50;

/** Zombies among all processes of this /proc. */
export async function countDefunct(): Promise<number> {
  let count = 0;
  for (const [position, pid] of listPids().entries()) {
    if (position % batch === batch - 1) await new Promise((resolve) => setImmediate(resolve));
    if (processState(pid) === 'Z') count += 1;
  }
  return count;
}
