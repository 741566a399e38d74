import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { describe, test } from 'node:test';
import { run } from '../fixtures/process.ts';
import { waitFor } from '../client/pods.ts';
import { fullName, get, idOf, isReady, waitForPod, type PodObject } from './api.ts';
import { cpuUsage, podCgroup, workingSet } from './cgroup-files.ts';
import type { World } from './world.ts';

/** cAdvisor looks at a container each 10 to 15 s, and each question costs the kubelet some work. */
const patienceMs = 120_000;
const pauseMs = 700;
/** What the pod `volumes` writes into its layer. */
const writtenBytes = 300 * 1024;
/** What a shell that sleeps second by second may gain or lose between two looks. */
const memorySlack = 2 << 20;
const storage = '/var/lib/containers/storage';

/** The parts of the kubelet's summary that are compared. */
interface Summary {
  readonly node: { readonly runtime?: { readonly imageFs?: { readonly usedBytes?: number } } };
  readonly pods:
    | null
    | readonly {
        readonly podRef: { readonly name: string };
        readonly network?: { readonly name?: string; readonly rxBytes?: number };
        readonly containers:
          | null
          | readonly {
              readonly name: string;
              readonly cpu?: { readonly usageNanoCores?: number; readonly usageCoreNanoSeconds?: number };
              readonly memory?: { readonly workingSetBytes?: number };
              readonly rootfs?: { readonly usedBytes?: number };
              readonly logs?: { readonly usedBytes?: number };
            }[];
      }[];
}

/** What the daemon and the kubelet say about use, against cgroup files and du. */
export function statsTests(world: () => World): void {
  describe('stats', { concurrency: true }, () => {
    test('ContainerStats are those of the cgroup', async () => {
      const pod = await waitForPod('limits', isReady);
      const { runtime } = world().daemon.client;
      for (const name of ['busy', 'memory']) {
        const cgroup = cgroupOf(pod, name);
        const before = [cpuUsage(cgroup), workingSet(cgroup)] as const;
        const { stats } = await runtime.containerStats({ containerId: idOf(pod, name) });
        const after = [cpuUsage(cgroup), workingSet(cgroup)] as const;
        assertBetween(Number(stats?.cpu?.usageCoreNanoSeconds?.value), before[0], after[0]);
        const memory = Number(stats?.memory?.workingSetBytes?.value);
        assertBetween(memory, Math.min(before[1], after[1]) - memorySlack, Math.max(before[1], after[1]) + memorySlack);
      }
    });

    test('PodSandboxStats are those of the cgroup and of the interface', async () => {
      const pod = await waitForPod('limits', isReady);
      const { runtime } = world().daemon.client;
      const { items } = await runtime.listPodSandbox({ filter: { labelSelector: { app: 'limits' } } });
      const before = cpuUsage(podCgroup(pod));
      const { stats } = await runtime.podSandboxStats({ podSandboxId: items[0]?.id ?? '' });
      assertBetween(Number(stats?.linux?.cpu?.usageCoreNanoSeconds?.value), before, cpuUsage(podCgroup(pod)));
      const { name, rxBytes } = stats?.linux?.network?.defaultInterface ?? {};
      assert.equal(name, 'eth0');
      assertBetween(Number(rxBytes?.value), 1, receivedBytes(await infoOf(world(), idOf(pod, 'busy'))));
      assert.deepEqual(stats?.linux?.containers.map(({ attributes }) => attributes?.metadata?.name).toSorted(), [
        'busy',
        'memory',
      ]);
    });

    test('the writable layer of a container holds what du says', async () => {
      const pod = await waitForPod('volumes', isReady);
      const layer = upperDirectory(await infoOf(world(), idOf(pod, 'main')));
      // It is walked now and then, not at each call.
      await eventually('the size of the writable layer', async () => {
        const { stats } = await world().daemon.client.runtime.containerStats({ containerId: idOf(pod, 'main') });
        const { usedBytes, inodesUsed } = stats?.writableLayer ?? {};
        const { bytes, inodes } = filesBelow(layer);
        return bytes >= writtenBytes && Number(usedBytes?.value) === bytes && Number(inodesUsed?.value) === inodes;
      });
    });

    test('ImageFsInfo is the sum of the image layers', async () => {
      await waitForPod('web', isReady);
      const { imageFilesystems } = await world().daemon.client.image.imageFsInfo({});
      const layers = imageLayers().map((id) => filesBelow(`${storage}/overlay/${id}/diff`));
      const sum = (key: 'bytes' | 'inodes' | 'names'): number => layers.reduce((total, layer) => total + layer[key], 0);
      const { usedBytes, inodesUsed } = imageFilesystems[0] ?? {};
      assert.equal(Number(inodesUsed?.value), sum('inodes'));
      // The records hold the size as tar archives: a header and padding for each entry, and an end.
      const overhead = sum('names') * 1024 + layers.length * 10_240;
      assertBetween(Number(usedBytes?.value), sum('bytes'), sum('bytes') + overhead);
    });

    test('GET /containers/ID tells where a container is, as cAdvisor asks for it', async () => {
      const pod = await waitForPod('web', isReady);
      const id = idOf(pod, 'server');
      const info = await infoOf(world(), id);
      assert.ok(readFileSync(`/proc/${info.pid}/cgroup`, 'utf8').includes(`crio-${id}`));
      assert.ok(readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${info.root} `));
      assert.match(readFileSync(info.log_path, 'utf8'), / serving\n/);
      assert.equal(info.labels['io.kubernetes.container.name'], 'server');
      assert.equal(info.labels['io.kubernetes.pod.uid'], pod.metadata.uid);
      assert.deepEqual(info.ip_addresses, [pod.status.podIP]);
      const infra = await infoOf(world(), info.sandbox);
      assert.equal(infra.labels['io.kubernetes.container.name'], 'POD');
      assert.ok(infra.pid > 0);
    });

    test('cAdvisor finds every container and pod when it sees the cgroup', async () => {
      // It asks once, and without an answer again only a minute later.
      const { runtime } = world().daemon.client;
      await waitForPod('web', isReady);
      const { containers } = await runtime.listContainers({});
      const { items } = await runtime.listPodSandbox({});
      const log = readFileSync(world().kubelet.logFile, 'utf8');
      const missed = [...containers, ...items].filter(({ id }) => log.includes(`error finding container ${id}`));
      assert.deepEqual(
        missed.map(({ metadata }) => metadata?.name),
        [],
      );
    });

    test('/stats/summary agrees with the cgroups and du', async () => {
      const pod = await waitForPod('limits', isReady);
      const volumes = await waitForPod('volumes', isReady);
      const layer = upperDirectory(await infoOf(world(), idOf(volumes, 'main')));
      // cAdvisor counts blocks, at the container's start and then once a minute.
      const leastUsed = asksDaemon(world()) ? 1 : writtenBytes;
      await eventually('a whole summary', async () => {
        const summary = JSON.parse(await get('/stats/summary')) as Summary; // the kubelet's own type
        const memory = containerIn(summary, 'limits', 'memory');
        const busy = containerIn(summary, 'limits', 'busy');
        const used = containerIn(summary, 'volumes', 'main')?.rootfs?.usedBytes ?? 0;
        return (
          isNear(memory?.memory?.workingSetBytes, workingSet(cgroupOf(pod, 'memory'))) &&
          (busy?.cpu?.usageCoreNanoSeconds ?? Infinity) <= cpuUsage(cgroupOf(pod, 'busy')) &&
          (busy?.cpu?.usageNanoCores ?? 0) > 0 &&
          used >= leastUsed &&
          used <= filesBelow(layer).bytes + (1 << 20) &&
          (containerIn(summary, 'logger', 'main')?.logs?.usedBytes ?? 0) > 0 &&
          (summary.node.runtime?.imageFs?.usedBytes ?? 0) > 0
        );
      });
    });

    test('/metrics/resource has each container', async () => {
      await waitForPod('limits', isReady);
      await eventually('CPU time of the busy container', async () => {
        const line = new RegExp(
          `^container_cpu_usage_seconds_total{container="busy",[^}]*pod="${fullName('limits')}"} (\\S+)`,
          'm',
        );
        return Number(line.exec(await get('/metrics/resource'))?.[1]) > 0;
      });
    });

    test('/metrics/cadvisor has the containers, with their names where it asks the daemon for them', async () => {
      const pod = await waitForPod('limits', isReady);
      const named = asksDaemon(world());
      const names = named ? [`pod="${fullName('limits')}"`, 'container="memory"'] : [];
      await eventually('memory of the container', async () => {
        const metrics = await get('/metrics/cadvisor');
        const memory = sample(metrics, 'container_memory_working_set_bytes', [idOf(pod, 'memory'), ...names]);
        return isNear(memory, workingSet(cgroupOf(pod, 'memory')));
      });
      if (!named) return;
      await eventually('received bytes of the pod', async () => {
        const metrics = await get('/metrics/cadvisor');
        const labels = ['interface="eth0"', ...names.slice(0, 1)];
        const received = sample(metrics, 'container_network_receive_bytes_total', labels) ?? 0;
        return received > 0 && received <= receivedBytes(await infoOf(world(), idOf(pod, 'busy')));
      });
    });
  });
}

/** At this path the kubelet has its cAdvisor ask the daemon's HTTP API. */
function asksDaemon({ daemon }: World): boolean {
  return daemon.socket === '/var/run/crio/crio.sock';
}

async function eventually(what: string, claim: () => Promise<boolean>): Promise<void> {
  await waitFor(what, patienceMs, async () => ((await claim()) ? true : undefined), pauseMs);
}

function cgroupOf(pod: PodObject, container: string): string {
  return `${podCgroup(pod)}/crio-${idOf(pod, container)}`;
}

function containerIn({ pods }: Summary, pod: string, container: string) {
  const found = pods?.find(({ podRef }) => podRef.name === fullName(pod));
  return found?.containers?.find(({ name }) => name === container);
}

function isNear(value: number | undefined, expected: number): boolean {
  return value !== undefined && Math.abs(value - expected) <= memorySlack;
}

function assertBetween(value: number, low: number, high: number): void {
  assert.ok(value >= low && value <= high, `${value} is not between ${low} and ${high}`);
}

/** The value of the first sample whose labels have all these parts. */
function sample(metrics: string, name: string, parts: readonly string[]): number | undefined {
  const line = metrics
    .split('\n')
    .find((each) => each.startsWith(`${name}{`) && parts.every((part) => each.includes(part)));
  return line === undefined ? undefined : Number(/} (\S+)/.exec(line)?.[1]);
}

/** The answer of the daemon's HTTP API. */
interface ContainerInfo {
  readonly pid: number;
  readonly root: string;
  readonly log_path: string;
  readonly sandbox: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ip_addresses: readonly string[];
}

function infoOf({ daemon }: World, id: string): Promise<ContainerInfo> {
  return new Promise((resolve, reject) => {
    request({ socketPath: daemon.socket, path: `/containers/${id}`, headers: { host: 'crio' } }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => (text += part));
      response.on('end', () =>
        response.statusCode === 200
          ? resolve(JSON.parse(text) as ContainerInfo) // the tests fail on anything else
          : reject(new Error(`ask for container "${id}": ${response.statusCode ?? 0}: ${text}`)),
      );
    })
      .once('error', reject)
      .end();
  });
}

function upperDirectory({ root }: ContainerInfo): string {
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((each) => each.split(' ')[4] === root);
  const upper = /[ ,]upperdir=([^, ]+)/.exec(line ?? '')?.[1] ?? '';
  return upper.startsWith('/') ? upper : `${root.replace(/merged$/, '')}diff`;
}

/** Of all that lies below the folder; folders count as entries without bytes. */
function filesBelow(folder: string): { bytes: number; inodes: number; names: number } {
  const lines = run('find', [folder, '-mindepth', '1', '-printf', '%y %s %i\n']).split('\n').filter(Boolean);
  // A file may have several names.
  const inodes = [...new Map(lines.map((line) => [line.split(' ')[2], line])).values()];
  const files = inodes.filter((line) => !line.startsWith('d'));
  const bytes = files.reduce((sum, line) => sum + Number(line.split(' ')[1]), 0);
  return { bytes, inodes: inodes.length, names: lines.length };
}

function imageLayers(): string[] {
  // The format of containers/storage.
  const layers = JSON.parse(readFileSync(`${storage}/overlay-layers/layers.json`, 'utf8')) as { readonly id: string }[];
  return layers.map(({ id }) => id);
}

/** Of eth0, as a process of the pod sees it. */
function receivedBytes({ pid }: ContainerInfo): number {
  return Number(/^ *eth0: *(\d+)/m.exec(readFileSync(`/proc/${pid}/net/dev`, 'utf8'))?.[1]);
}
