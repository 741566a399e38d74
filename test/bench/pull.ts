/**
 * `make bench-pull`: pulls one image again and again with crio-ts, podman and skopeo in turn, inside a stage.
 *   node test/run/main.ts node test/bench/pull.ts [--rounds N] [--fs ext4|tmpfs] [--own] [--quick]
 * `--own` leaves podman and skopeo out, for profiles. The last line is JSON; see docs/performance.md.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import type { CriClient } from '../client/client.ts';
import { ensureImage, busybox, removeAllPods, runContainer, runPod } from '../client/pods.ts';
import { ext4, mountLoop } from '../crash/loop-disk.ts';
import { run } from '../fixtures/process.ts';
import { startRegistry, type Registry } from '../fixtures/registry.ts';
import { startDaemon, type Daemon } from '../run/daemon.ts';
import { write } from '../run/node-files.ts';
import { stageFolder } from '../run/stage.ts';
import { buildBenchImage, pushVariant, type BenchImage } from './pull-image.ts';
import { watchListTimes } from './list-times.ts';
import { cpuSecondsOf, residentMiB, watchMemory } from './pull-memory.ts';
import { jsonLine, printTable, type PullFigures } from './pull-report.ts';
import { median, percentiles } from './statistics.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string' },
    fs: { type: 'string' },
    own: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
/** In each round: of one pull alone the slowest hundredth is three answers. */
const watchedPulls = values.quick ? 1 : 3;
const containers = values.quick ? 2 : 20;
const laterMs = values.quick ? 3000 : 60_000;
/** The daemon gives memory back 2 s after its start and after a pull. */
const settleMs = values.quick ? 0 : 5000;
const storeFolder = '/var/lib/containers';
const nothing: Timed = { seconds: Number.NaN, cpuSeconds: Number.NaN };
let variants = 0;
/** All images of the default rounds, and as much again. */
const diskBytes = 28e9;
/**
 * Only there an image is removed after it was measured: ext4 goes past all inodes that were freed in the last minutes
 * (recently_deleted in its ialloc.c), so each later pull, by whomever, would be slower than the one before. For the same
 * reason the ext4 is a new one, which nobody else uses.
 */
let memoryOnly = false;

const image = await buildBenchImage(values.quick ? 'small' : 'full');
await using registry = await startRegistry({ storage: image.storage });
write(
  '/etc/containers/registries.conf.d/bench.conf',
  `[[registry]]\nlocation = "${registry.address}"\ninsecure = true\n`,
);
const all: PullFigures[] = [];
for (const fileSystem of ['ext4', 'tmpfs'] as const) {
  if (values.fs !== undefined && values.fs !== fileSystem) continue;
  all.push(await measure(fileSystem, { image, registry }));
}
printTable(image, all);
const [first] = all;
if (first === undefined) throw new Error(`--fs "${values.fs}" is neither ext4 nor tmpfs`);
console.log(jsonLine(first));

interface Source {
  readonly image: BenchImage;
  readonly registry: Registry;
}

interface Timed {
  readonly seconds: number;
  /** User and system time; of the daemon's own process, or of the program and its children. */
  readonly cpuSeconds: number;
}

type Round = Readonly<Record<'own' | 'podman' | 'skopeo' | 'tenRequests' | 'tenTags', Timed>>;

async function measure(fileSystem: 'ext4' | 'tmpfs', source: Source): Promise<PullFigures> {
  using undo = new DisposableStack();
  memoryOnly = fileSystem === 'tmpfs';
  const others = otherStores(fileSystem, undo);
  await using daemon = await startDaemon({ logLevel: 'warn' });
  await ensureImage(daemon.client, busybox);
  const pod = await runPod(daemon.client);
  for (let count = 0; count < containers; count++)
    await runContainer(daemon.client, pod, { name: `c${count}`, command: ['sleep', '100000'] });
  await sleep(settleMs);
  const idleMiB = residentMiB(daemon.pid());
  // Reads the image into the page cache, for all.
  if (!values.quick) await timeOwn(daemon, (await nextVariant(source)).slice(0, 1));
  const each: Round[] = [];
  const lists: number[] = [];
  const peaks: number[] = [];
  for (let count = 0; count < rounds; count++) {
    each.push(await measureRound(daemon, source, others));
    for (let pull = 0; pull < watchedPulls; pull++) {
      const watched = await watchedPull(daemon, source);
      lists.push(...watched.lists);
      peaks.push(watched.peakMiB);
    }
  }
  await sleep(laterMs);
  const afterMinuteOverIdleMiB = residentMiB(daemon.pid()) - idleMiB;
  await removeAllPods(daemon.client);
  const middle = (value: (round: Round) => number): number => median(each.map(value));
  const ratio = (above: keyof Round, below: keyof Round): number =>
    middle((round) => round[above].seconds / round[below].seconds);
  const { p50, p99 } = percentiles(lists);
  return {
    fileSystem,
    seconds: eachOf((program) => middle((round) => round[program].seconds)),
    cpuSeconds: eachOf((program) => middle((round) => round[program].cpuSeconds)),
    ratioPodman: ratio('own', 'podman'),
    ratioSkopeo: ratio('own', 'skopeo'),
    ratioTenRequests: ratio('tenRequests', 'own'),
    ratioTenTags: ratio('tenTags', 'own'),
    listP50Ms: p50,
    listP99Ms: p99,
    listMaxMs: Math.max(...lists),
    listCalls: lists.length,
    idleMiB,
    peakOverIdleMiB: Math.max(...peaks) - idleMiB,
    afterMinuteOverIdleMiB,
  };
}

function eachOf<T>(value: (program: keyof Round) => T): Record<keyof Round, T> {
  return {
    own: value('own'),
    podman: value('podman'),
    skopeo: value('skopeo'),
    tenRequests: value('tenRequests'),
    tenTags: value('tenTags'),
  };
}

/** Puts the wanted file system below the daemon's folder, and names folders on it for podman and skopeo. */
function otherStores(fileSystem: 'ext4' | 'tmpfs', undo: DisposableStack): readonly string[] {
  if (fileSystem === 'ext4') {
    const file = join(stageFolder(), 'pull-bench.ext4');
    const { device } = undo.use(mountLoop({ file, mountPoint: storeFolder, size: diskBytes, mkfs: ext4 }));
    // Otherwise the page cache takes everything twice.
    run('losetup', ['--direct-io=on', device]);
  } else {
    run('mount', ['-t', 'tmpfs', 'tmpfs', storeFolder]);
    undo.defer(() => run('umount', ['--lazy', storeFolder]));
  }
  return ['podman', 'skopeo'].map((name) => join(storeFolder, `bench-${name}`));
}

/**
 * One pull by each program, and the two of ten at once, each into a store that does not have the image. The own one is
 * measured at both ends, as the machine may become slower or faster meanwhile.
 */
async function measureRound(daemon: Daemon, source: Source, stores: readonly string[]): Promise<Round> {
  const one = async (): Promise<string[]> => (await nextVariant(source)).slice(0, 1);
  const names = await one();
  const first = await timeOwn(daemon, names);
  const [name = ''] = names;
  const [podmanStore = '', skopeoStore = ''] = stores.map((store) => `${store}-${variants}`);
  let [podman, skopeo] = [nothing, nothing];
  if (!values.own) {
    podman = await timeProgram('podman', [...storeFlags(podmanStore), 'pull', '--quiet', name], podmanStore);
    const target = `containers-storage:[overlay@${skopeoStore}+${runRoot(skopeoStore)}]${name}`;
    const args = ['copy', '--quiet', '--src-tls-verify=false', `docker://${name}`, target];
    skopeo = await timeProgram('skopeo', args, skopeoStore);
  }
  const [again = ''] = await nextVariant(source);
  const tenRequests = await timeOwn(
    daemon,
    Array.from({ length: 10 }, () => again),
  );
  const tenTags = await timeOwn(daemon, await nextVariant(source));
  const own = meanOf(first, await timeOwn(daemon, await one()));
  const show = ({ seconds, cpuSeconds }: Timed): string => `${seconds.toFixed(2)} (CPU ${cpuSeconds.toFixed(2)})`;
  console.log(
    `crio-ts ${show(own)}, podman ${show(podman)}, skopeo ${show(skopeo)}, ten requests ${show(tenRequests)}, ten tags ${show(tenTags)} s`,
  );
  return { own, podman, skopeo, tenRequests, tenTags };
}

function meanOf(a: Timed, b: Timed): Timed {
  return { seconds: (a.seconds + b.seconds) / 2, cpuSeconds: (a.cpuSeconds + b.cpuSeconds) / 2 };
}

/** Names of an image that no store has yet. */
function nextVariant({ image, registry }: Source): Promise<string[]> {
  return pushVariant(registry, image, variants++);
}

function storeFlags(store: string): string[] {
  return ['--root', store, '--runroot', runRoot(store), '--storage-driver', 'overlay', '--cgroup-manager', 'cgroupfs'];
}

/** podman takes short names only. */
function runRoot(store: string): string {
  return `/run/${store.slice(store.lastIndexOf('/') + 1)}`;
}

/** A program that pulls into a new store; it is left there where a removal would disturb what comes next. */
async function timeProgram(file: string, args: readonly string[], store: string): Promise<Timed> {
  mkdirSync(store, { recursive: true });
  await quiet();
  const begin = performance.now();
  const { stdout } = await promisify(execFile)('bash', ['-c', '"$@" >/dev/null; times', 'bash', file, ...args]);
  const seconds = (performance.now() - begin) / 1000;
  run('sh', ['-c', `grep -oE ' ${store}[^ ]*' /proc/self/mountinfo | sort -r | xargs -r umount -l`]);
  if (memoryOnly) for (const folder of [store, runRoot(store)]) rmSync(folder, { recursive: true, force: true });
  return { seconds, cpuSeconds: childTimes(stdout) };
}

/** The last line of bash's `times`: user and system time of its children, as `0m1.234s 0m0.123s`. */
function childTimes(text: string): number {
  const line = text.trim().split('\n').at(-1) ?? '';
  return [...line.matchAll(/(\d+)m([\d.]+)s/g)].reduce((sum, [, m, s]) => sum + Number(m) * 60 + Number(s), 0);
}

/** All of `names` at once. */
async function timeOwn({ client, pid }: Daemon, names: readonly string[]): Promise<Timed> {
  await quiet();
  const cpu = cpuSecondsOf(pid());
  const begin = performance.now();
  await Promise.all(names.map((name) => client.image.pullImage({ image: { image: name } }, { timeoutMs: 300_000 })));
  const seconds = (performance.now() - begin) / 1000;
  const cpuSeconds = cpuSecondsOf(pid()) - cpu;
  await removeOwn(client, names);
  return { seconds, cpuSeconds };
}

async function removeOwn(client: CriClient, names: readonly string[]): Promise<void> {
  if (!memoryOnly) return;
  for (const name of new Set(names)) await client.image.removeImage({ image: { image: name } });
}

/** One pull with a look at the daemon's memory and answers. */
async function watchedPull(
  { client, pid, socket }: Daemon,
  source: Source,
): Promise<{ readonly lists: readonly number[]; readonly peakMiB: number }> {
  const names = (await nextVariant(source)).slice(0, 1);
  await quiet();
  const memory = watchMemory(pid());
  const asking = await watchListTimes(socket);
  await client.image.pullImage({ image: { image: names[0] ?? '' } }, { timeoutMs: 300_000 });
  const lists = await asking.stop();
  const peakMiB = memory.stop();
  await removeOwn(client, names);
  return { lists, peakMiB };
}

/** What was written or removed before is no work of the next measurement. */
async function quiet(): Promise<void> {
  // The daemon has deleted what was removed, and ended its unpack workers: every pull starts without compiled code.
  await sleep(values.quick ? 0 : 3500);
  await promisify(execFile)('sync');
  if (!values.quick) await bringMemory();
}

/**
 * The host of a virtual machine may take memory that is free (virtio-balloon's free page reporting, from 2 s on) and give it
 * again page by page: 2.9 s for a GB on one host, which whoever touches it first would pay. So each measurement begins
 * with as much as it needs that was in use a moment ago.
 */
async function bringMemory(): Promise<void> {
  await promisify(execFile)('dd', ['if=/dev/zero', 'of=/dev/null', 'bs=1G', 'count=1']);
}
