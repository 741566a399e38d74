/**
 * The measurements, inside a stage. Floor and daemon take turns with the same gaps; three rounds, medians of them.
 *   node measure.ts [--rounds N] [--count N] [--handler crun|runc] [--quick]
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { connect, type CriClient } from '../client/client.ts';
import { busybox, containerConfig, ensureImage, podConfig, removePod } from '../client/pods.ts';
import { startDaemon } from '../run/daemon.ts';
import { stageFolder } from '../run/stage.ts';
import { startFloor, type Floor, type Template } from './floor.ts';
import { printTables, type HandlerReport, type Report } from './report.ts';
import { median, percentiles, Samples, type Percentiles } from './statistics.ts';
import {
  command,
  createAndStart,
  linux,
  rate,
  residentMiB,
  runBenchPod,
  startTemplate,
  type RunningTemplate,
} from './template.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string' },
    count: { type: 'string' },
    handler: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
const perRound = Number(values.count ?? (values.quick ? 5 : 20));
const gapMs = 20;
/** The daemon gives memory back 2 s after its start and after a pull. */
const settleMs = 5000;
const clients = 10;
const many = values.quick
  ? { pods: 10, perPod: 2, cycles: 2, execs: 5 }
  : { pods: 100, perPod: 5, cycles: 5, execs: 20 };
const startMs = await measureStart();
await using daemon = await startDaemon({ logLevel: 'warn' });
const { client } = daemon;
await ensureImage(client, busybox);
await sleep(settleMs);
const before = residentMiB(daemon.pid());
const crowd = await measureCrowd();
const list20 = await withContainers(20, 1);
const report: Partial<Record<string, HandlerReport>> = {};
for (const handler of values.handler === undefined ? ['runc', 'crun'] : [values.handler])
  report[handler] = await measureHandler(handler);
const atEnd = residentMiB(daemon.pid());
const result: Report = {
  unit: 'ms',
  handlers: report,
  list: { '20': list20, '500': crowd.list },
  rssMiB: { before, after: crowd.rss },
  startMs,
};
printTables(result);
console.log(`RSS ${atEnd} MiB at the end of all measurements`);
console.log(JSON.stringify({ unit: result.unit, ...report, list: result.list, rssMiB: result.rssMiB, startMs }));

/** From the start of the program to the first answered call. */
async function measureStart(): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < 5; round++) {
    const begin = performance.now();
    const started = await startDaemon({ logLevel: 'warn' });
    times.push(performance.now() - begin);
    await started[Symbol.asyncDispose]();
  }
  return median(times);
}

async function measureHandler(handler: string): Promise<HandlerReport> {
  const own = new Samples();
  const byHand = new Samples();
  const template = await startTemplate(client, handler);
  using floor = startFloor(template.template, `${stageFolder()}/floor-${handler}`);
  // A first run that only warms caches.
  const warmUp = new Samples();
  warmUp.startRound();
  await cycle(handler, warmUp);
  await floorCycle(floor, warmUp);
  for (let round = 0; round < rounds; round++) {
    own.startRound();
    byHand.startRound();
    for (let count = 0; count < perRound; count++) {
      await cycle(handler, own);
      await floorCycle(floor, byHand);
    }
    for (let count = 0; count < perRound * 2; count++) {
      await timed(own, 'ExecSync', () => client.runtime.execSync({ containerId: template.containerId, cmd: ['true'] }));
      await sleep(gapMs);
      byHand.add('ExecSync', await floor.exec(template.containerId));
      await sleep(gapMs);
    }
  }
  const execs = await execRates(handler, template);
  const pods = await podRates(handler, template.template);
  await removePod(client, template.pod.id);
  return { calls: own.summary(), floor: byHand.summary(), ...pods, ...execs };
}

/** One pod with one container, from nothing to nothing. */
async function cycle(handler: string, samples: Samples): Promise<void> {
  const config = podConfig({});
  const up: number[] = [];
  const down: number[] = [];
  const call = async <T>(name: string, sums: number[], action: () => Promise<T>): Promise<T> => {
    const begin = performance.now();
    const answer = await action();
    const time = performance.now() - begin;
    samples.add(name, time);
    sums.push(time);
    await sleep(gapMs);
    return answer;
  };
  const { podSandboxId } = await call('RunPodSandbox', up, () =>
    client.runtime.runPodSandbox({ config, runtimeHandler: handler }),
  );
  const { containerId } = await call('CreateContainer', up, () =>
    client.runtime.createContainer({
      podSandboxId,
      config: containerConfig({ command, config: { linux } }),
      sandboxConfig: config,
    }),
  );
  await call('StartContainer', up, () => client.runtime.startContainer({ containerId }));
  await sleep(100);
  await call('StopContainer', down, () => client.runtime.stopContainer({ containerId, timeout: 10n }));
  await call('RemoveContainer', down, () => client.runtime.removeContainer({ containerId }));
  await call('StopPodSandbox', down, () => client.runtime.stopPodSandbox({ podSandboxId }));
  await call('RemovePodSandbox', down, () => client.runtime.removePodSandbox({ podSandboxId }));
  samples.add('PodUp', sum(up));
  samples.add('PodDown', sum(down));
}

/** The programs of the same steps. The C program measures; the gaps are those of `cycle`. */
async function floorCycle(floor: Floor, samples: Samples): Promise<void> {
  const { add, create, start } = await floor.up(gapMs);
  await sleep(100);
  const { stop, delete: remove, del } = await floor.down(gapMs);
  const calls = {
    RunPodSandbox: add,
    CreateContainer: create,
    StartContainer: start,
    StopContainer: stop,
    RemoveContainer: remove,
    StopPodSandbox: del,
  };
  for (const [name, time] of Object.entries(calls)) samples.add(name, time);
  samples.add('PodUp', add + create + start);
  samples.add('PodDown', stop + remove + del);
  await sleep(gapMs);
}

async function execRates(
  handler: string,
  template: RunningTemplate,
): Promise<{ execsPerSecond: number; execsPerSecondFloor: number }> {
  const own: number[] = [];
  const byHand: number[] = [];
  const connections = Array.from({ length: clients }, () => connect(daemon.socket));
  const floors = Array.from({ length: clients }, (_, index) =>
    startFloor(template.template, `${stageFolder()}/exec-${handler}-${index}`),
  );
  for (let round = 0; round < rounds; round++) {
    own.push(
      await rate(clients, many.execs, (index) =>
        connections[index]?.runtime.execSync({ containerId: template.containerId, cmd: ['true'] }),
      ),
    );
    byHand.push(await rate(clients, many.execs, (index) => floors[index]?.exec(template.containerId)));
  }
  for (const item of [...connections, ...floors]) item[Symbol.dispose]();
  return { execsPerSecond: median(own), execsPerSecondFloor: median(byHand) };
}

async function podRates(
  handler: string,
  template: Template,
): Promise<{ podsPerSecond: number; podsPerSecondFloor: number }> {
  const own: number[] = [];
  const byHand: number[] = [];
  const connections = Array.from({ length: clients }, () => connect(daemon.socket));
  const floors = Array.from({ length: clients }, (_, index) =>
    startFloor(template, `${stageFolder()}/pods-${handler}-${index}`),
  );
  for (let round = 0; round < rounds; round++) {
    own.push(await rate(clients, many.cycles, (index) => podCycle(connections[index] ?? client, handler)));
    byHand.push(
      await rate(clients, many.cycles, async (index) => {
        await floors[index]?.up();
        await floors[index]?.down();
      }),
    );
  }
  for (const item of [...connections, ...floors]) item[Symbol.dispose]();
  return { podsPerSecond: median(own), podsPerSecondFloor: median(byHand) };
}

async function podCycle(cri: CriClient, handler: string): Promise<void> {
  const pod = await runBenchPod(cri, handler);
  const containerId = await createAndStart(cri, pod);
  await cri.runtime.stopContainer({ containerId, timeout: 10n });
  await cri.runtime.removeContainer({ containerId });
  await removePod(cri, pod.id);
}

/** List times with a number of pods of one running container each; they are removed again. */
async function withContainers(pods: number, perPod: number): Promise<Record<string, Percentiles>> {
  const running = await inParallel(pods, async () => {
    const pod = await runBenchPod(client, '');
    for (let count = 0; count < perPod; count++) await createAndStart(client, pod);
    return pod;
  });
  const times = await listTimes();
  await inParallel(running.length, (index) => removePod(client, running[index]?.id ?? ''));
  return times;
}

/** RSS with 100 pods of one running container; then containers are added up to 500 and the lists are timed. */
async function measureCrowd(): Promise<{ rss: number; list: Record<string, Percentiles> }> {
  const pods = await inParallel(many.pods, async () => {
    const pod = await runBenchPod(client, '');
    await createAndStart(client, pod);
    return pod;
  });
  await sleep(settleMs);
  const rss = residentMiB(daemon.pid());
  const missing = many.pods * (many.perPod - 1);
  await inParallel(missing, async (index) => {
    const pod = pods[index % pods.length];
    if (pod === undefined) return;
    const config = containerConfig({ name: `more-${index}`, command, config: { linux } });
    await client.runtime.createContainer({ podSandboxId: pod.id, config, sandboxConfig: pod.config });
  });
  const list = await listTimes();
  await inParallel(pods.length, (index) => removePod(client, pods[index]?.id ?? ''));
  return { rss, list };
}

async function listTimes(): Promise<Record<string, Percentiles>> {
  const calls = {
    ListPodSandbox: () => client.runtime.listPodSandbox({}),
    ListContainers: () => client.runtime.listContainers({}),
    ListContainerStats: () => client.runtime.listContainerStats({}),
    ListPodSandboxStats: () => client.runtime.listPodSandboxStats({}),
    ListImages: () => client.image.listImages({}),
  };
  const results: Record<string, Percentiles> = {};
  for (const [name, call] of Object.entries(calls)) {
    const times: number[] = [];
    for (let count = 0; count < 200; count++) {
      const begin = performance.now();
      try {
        await call();
      } catch {
        // Not built yet: no entry in the table.
        break;
      }
      times.push(performance.now() - begin);
    }
    if (times.length > 0) results[name] = percentiles(times);
  }
  return results;
}

async function inParallel<T>(count: number, action: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) results[index] = await action(index);
  };
  await Promise.all(Array.from({ length: 4 }, worker));
  return results;
}

async function timed(samples: Samples, name: string, action: () => Promise<unknown>): Promise<void> {
  const begin = performance.now();
  await action();
  samples.add(name, performance.now() - begin);
}

function sum(times: readonly number[]): number {
  return times.reduce((total, time) => total + time, 0);
}
