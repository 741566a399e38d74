/**
 * `make bench-stream`, inside a stage: what exec, attach and port-forward cost; see docs/streaming.md.
 *   node stream.ts [--quick] [--handler crun|runc] [--execs N] [--only times|rates|leaks|sessions]
 * The last line is one JSON object.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { busybox, ensureImage, removePod } from '../client/pods.ts';
import { connect } from '../client/client.ts';
import type { Daemon } from '../run/daemon.ts';
import { execRates, execTimes, type ExecRates, type ExecTimes } from './exec-cost.ts';
import { footprintOf, startProbedDaemon, type Footprint } from './footprint.ts';
import { attachCosts, portForwardCosts, type SessionCost } from './sessions.ts';
import { round2 } from './statistics.ts';
import { rate, runBenchPod, startTemplate } from './template.ts';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    handler: { type: 'string' },
    execs: { type: 'string' },
    only: { type: 'string' },
  },
});
const clients = 10;
/** The kernel has forgotten by then that a cgroup was attached to, and the cores have slept. */
const quietMs = 150;
/** Threads that unpacked an image end, and the daemon gives memory back, 2 s after a pull. */
const settleMs = 4000;
const many = values.quick
  ? { times: 5, quietTimes: 3, rounds: 1, each: 3, execs: 1000, sessions: 50 }
  : { times: 100, quietTimes: 50, rounds: 5, each: 20, execs: 20_000, sessions: 500 };
const execs = Number(values.execs ?? many.execs);
const handlers = values.handler === undefined ? ['crun', 'runc'] : [values.handler];
const isWanted = (part: string): boolean => values.only === undefined || values.only === part;

await using daemon = await startProbedDaemon({ logLevel: 'warn' });
await ensureImage(daemon.client, busybox);
await sleep(settleMs);
const times: Record<string, { backToBack: ExecTimes; quiet: ExecTimes }> = {};
const rates: Record<string, ExecRates> = {};
for (const handler of handlers) await measureExec(handler);
const leaks = isWanted('leaks') ? await measureLeaks(daemon) : undefined;
const sessions = isWanted('sessions') ? await measureSessions(daemon) : {};
const ratios = Object.values(rates).map(({ ratio }) => ratio);
const over = Object.values(times).map(({ backToBack }) => backToBack.overMs);
console.log(
  JSON.stringify({
    execOverRuntimeMs: Math.max(...over, over.length === 0 ? 0 : -Infinity),
    execRateOfRuntime: ratios.length === 0 ? 0 : Math.min(...ratios),
    rssGrowthMiB: leaks === undefined ? 0 : round2(leaks.after.rssMiB - leaks.before.rssMiB),
    fdGrowth: leaks === undefined ? 0 : leaks.after.fds - leaks.before.fds,
    sessionKiB: Math.max(0, ...Object.values(sessions).map(({ kib }) => kib)),
  }),
);

async function measureExec(handler: string): Promise<void> {
  const { client } = daemon;
  const template = await startTemplate(client, handler);
  if (isWanted('times')) {
    const backToBack = await execTimes(daemon.socket, template, { gapMs: 0, count: many.times });
    const quiet = await execTimes(daemon.socket, template, { gapMs: quietMs, count: many.quietTimes });
    times[handler] = { backToBack, quiet };
    printTimes(handler, 'back to back', backToBack, 3);
    printTimes(handler, `after ${quietMs} ms of quiet`, quiet, 5);
  }
  if (isWanted('rates')) {
    const found = await execRates(daemon.socket, template, { clients, each: many.each, rounds: many.rounds });
    rates[handler] = found;
    console.log(
      `${handler}: ${clients} clients at once ${found.own} execs a second, by hand ${found.floor}: ${found.ratio} of it (at least 0.9)`,
    );
  }
  await removePod(client, template.pod.id);
}

function printTimes(handler: string, when: string, { own, floor, overMs }: ExecTimes, limitMs: number): void {
  console.log(
    `${handler}: execSync ${when}: p50 ${own.p50} p95 ${own.p95} ms, by hand p50 ${floor.p50} p95 ${floor.p95} ms: ` +
      `${overMs} ms over it (at most ${limitMs})`,
  );
}

async function measureLeaks(running: Daemon): Promise<{ before: Footprint; after: Footprint }> {
  const { pod, containerId } = await startTemplate(running.client, handlers[0] ?? 'crun');
  const connections = Array.from({ length: clients }, () => connect(running.socket));
  const run = (count: number) =>
    rate(clients, Math.ceil(count / clients), (index) =>
      connections[index]?.runtime.execSync({ containerId, cmd: ['sh', '-c', 'echo out; echo err >&2'] }),
    );
  // The heap takes its size, and the compiler its decisions.
  await run(Math.ceil(execs / 10));
  const before = await footprintOf(running);
  await run(execs);
  const after = await footprintOf(running);
  for (const connection of connections) connection[Symbol.dispose]();
  console.log(`${execs} execSync in a row, ${clients} at once: before and after`);
  for (const key of ['rssMiB', 'anonymousMiB', 'heapMiB', 'fds', 'processes', 'timers'] as const) {
    console.log(`  ${key.padEnd(13)}${String(before[key]).padStart(8)}${String(after[key]).padStart(8)}`);
  }
  await removePod(running.client, pod.id);
  return { before, after };
}

async function measureSessions(running: Daemon): Promise<Record<string, SessionCost>> {
  const pod = await runBenchPod(running.client, handlers[0] ?? 'crun');
  const found: Record<string, SessionCost> = {};
  const add = (kind: string, costs: Record<string, SessionCost>) => {
    for (const [way, cost] of Object.entries(costs)) found[`${kind} (${way})`] = cost;
  };
  add('attach', await attachCosts(running, pod, many.sessions));
  add('port-forward', await portForwardCosts(running, pod, many.sessions));
  for (const [kind, { sessions: count, kib, fdsEach, fdGrowth }] of Object.entries(found)) {
    console.log(
      `${count} ${kind} sessions: ${kib} KiB and ${fdsEach} descriptors each (at most 100 KiB); ${fdGrowth} descriptors left after them`,
    );
  }
  await removePod(running.client, pod.id);
  return found;
}
