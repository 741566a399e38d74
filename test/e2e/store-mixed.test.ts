import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { serviceError } from '../client/client.ts';
import { busybox, execSync, removeAllPods, removePod, runContainer, runPod } from '../client/pods.ts';
import { daemonFile } from '../run/daemon.ts';
import { useDaemon } from './environment.ts';
import { podmanRunOptions } from '../fixtures/podman.ts';
import { podman, podmanMajor, podmanOk, preparePodman, runAsync } from './podman.ts';
import { storeFaults } from './store-faults.ts';

/**
 * The daemon and podman pull, remove and run at the same time in one store. `MIXED_MINUTES=120 make mixed` is the long
 * form of the same; each step is chosen by chance.
 */
const minutes = Number(process.env['MIXED_MINUTES'] ?? '1.1');
const node = useDaemon({ logLevel: 'info' });
before(preparePodman);

const graphRoot = '/var/lib/containers/storage';
const runRoot = '/run/containers/storage';
const formats = (tag: string): string => `docker.io/library/formats:${tag}`;
const criTools = (name: string): string => `gcr.io/k8s-staging-cri-tools/${name}`;
/** They share their lowest layer; each has its name in /etc/image-name. */
const shared = ['plain', 'docker', 'list'].map(formats).concat(criTools('test-image-1:latest'));
const others = ['zstd', 'docker-list']
  .map(formats)
  .concat(criTools('test-image-2:latest'), criTools('test-image-3:latest'));
/**
 * podman before 5 does not see our containers, and takes the layers of a running one away (storage-format 7). There it
 * removes only what no container of ours runs from.
 */
const ours = podmanMajor >= 5 ? [...shared, ...others] : shared;
const removable = podmanMajor >= 5 ? [...shared, ...others] : others;
const all = [...shared, ...others];

/** What podman says when the other side was faster: the image or a layer of it went while it worked. */
const lostRace = new RegExp(
  [
    'image not known',
    'no such image',
    'layer not known',
    'image is in use',
    'image used by',
    'does not resolve to an image',
    'reference does not resolve',
    'unable to find a name and tag match',
    'locating image with ID',
    'identifier is not an image',
    'no such file or directory',
    // An id that is no image any more is taken for a name.
    'cannot specify 64-byte hexadecimal strings',
  ].join('|'),
  'i',
);

class Tally {
  readonly done = new Map<string, number>();
  readonly faults: string[] = [];

  count(what: string): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1);
  }

  fault(what: string, text: string): void {
    this.faults.push(`${what}: ${text.trim().slice(0, 600)}`);
  }
}

/** A container found another file in its image than belongs there. */
const otherContent = 9;

type Step = (tally: Tally) => Promise<unknown>;

const client = () => node.client;

const steps: Readonly<Record<string, Step>> = {
  async 'daemon pulls'(tally) {
    const image = oneOf(all);
    try {
      const { imageRef } = await client().image.pullImage({ image: { image } });
      assert.match(imageRef, /^[0-9a-f]{64}$/);
    } catch (error) {
      const { details } = serviceError(error);
      // The image was pulled, and podman removed it before the answer.
      if (!/was removed meanwhile/.test(details)) tally.fault(`the daemon pulls ${image}`, details);
    }
  },
  async 'daemon removes'(tally) {
    const image = oneOf(all);
    try {
      await client().image.removeImage({ image: { image } });
    } catch (error) {
      const { details } = serviceError(error);
      if (!/image is in use by a container/.test(details)) tally.fault(`the daemon removes ${image}`, details);
    }
  },
  async 'daemon lists'(tally) {
    const { images } = await client().image.listImages({});
    for (const { id, size, repoTags } of images)
      if (size === 0n) tally.fault('the daemon lists', `image ${id} ${repoTags.join(' ')} has no size`);
    await client().image.imageFsInfo({});
  },
  async 'daemon runs'(tally) {
    const image = oneOf(ours);
    const pod = await runPod(client());
    try {
      const id = await runContainer(client(), pod, { image, command: ['sleep', '1000'] });
      await sleep(Math.random() * 1500);
      const { stdout } = await execSync(client(), id, ['cat', '/etc/image-name']);
      if (stdout !== `${image}\n`) tally.fault(`the daemon runs ${image}`, `it says ${JSON.stringify(stdout)}`);
    } catch (error) {
      const { details } = serviceError(error);
      if (!isGone(details)) tally.fault(`the daemon runs ${image}`, details);
    }
    await removePod(client(), pod.id);
  },
  'podman pulls': (tally) => tried(tally, ['pull', '--quiet', oneOf(all)]),
  'podman removes': (tally) => tried(tally, ['rmi', oneOf(removable)]),
  'podman lists': (tally) => tried(tally, ['images', '--quiet', '--no-trunc']),
  async 'podman runs'(tally) {
    const image = oneOf(all);
    // The container itself looks, as podman may lose the output of one that ends at once: one of 5,700 was empty.
    const look = `read -r name </etc/image-name; test "$name" = "$0" || { echo "it is $name" >&2; exit ${otherContent}; }`;
    await tried(tally, ['run', ...podmanRunOptions, image, 'sh', '-c', look, image]);
  },
  async 'podman tags'(tally) {
    const name = `localhost/tagged:${Math.floor(Math.random() * 3)}`;
    if ((await tried(tally, ['tag', oneOf(removable), name])) !== undefined) await tried(tally, ['untag', name, name]);
  },
};

/**
 * Its output, or undefined when the other side was faster. podman words that in many ways: what is no known one is a fault
 * when it stays, as damage does.
 */
async function tried(tally: Tally, args: readonly string[]): Promise<string | undefined> {
  let failure = '';
  for (let attempt = 1; attempt <= 3; attempt++) {
    const { code, stdout, stderr } = await podman(...args);
    if (code === 0) return stdout;
    if (lostRace.test(stderr)) return undefined;
    failure = stderr;
    if (code === otherContent) break;
  }
  tally.fault(`podman ${args.join(' ')}`, failure);
  return undefined;
}

/** The image went between the pull and the creation of the container. */
function isGone(text: string): boolean {
  return /not in storage|image .* not found|no such image|was removed meanwhile|not present locally|not known/i.test(
    text,
  );
}

/** Four of the daemon's and three of podman's: each a loop of its own. */
const loops: readonly (readonly string[])[] = [
  ['daemon pulls', 'daemon removes'],
  ['daemon pulls', 'daemon lists', 'daemon removes'],
  ['daemon runs', 'daemon pulls'],
  ['daemon runs'],
  ['podman pulls', 'podman removes'],
  ['podman pulls', 'podman runs', 'podman lists'],
  ['podman runs', 'podman tags', 'podman removes'],
];

const timeout = (minutes * 60 + 240) * 1000;

test(`${minutes} minutes of the daemon and podman in one store leave it whole`, { timeout }, async () => {
  const tally = new Tally();
  const end = Date.now() + minutes * 60_000;
  const loop = async (names: readonly string[]) => {
    while (Date.now() < end && tally.faults.length < 20) {
      const name = oneOf(names);
      await steps[name]?.(tally);
      tally.count(name);
    }
  };
  await Promise.all(loops.map(loop));
  const retries = node.daemon.log().match(/was hidden by another program/g)?.length ?? 0;
  console.log(`creations done anew, as podman had hidden the root file system: ${retries}`);
  console.log(`steps: ${[...tally.done].map(([name, count]) => `${name} ${count}`).join(', ')}`);
  await readBoth();
  await removeAllPods(client());
  await node.daemon.restart('SIGTERM', async () => {
    assert.deepEqual(storeFaults(graphRoot, runRoot), []);
    const check = await runAsync(daemonFile, ['check']);
    assert.equal(check.code, 0, check.stderr);
    if (podmanMajor >= 5) await podmanOk('system', 'check');
  });
  assert.deepEqual(tally.faults, []);
  for (const name of Object.keys(steps)) assert.ok((tally.done.get(name) ?? 0) > 0, name);
});

/** Every image is listed by both, complete, and runs in both. */
async function readBoth(): Promise<void> {
  await Promise.all(all.map((image) => client().image.pullImage({ image: { image } })));
  const { images } = await client().image.listImages({});
  const listed = (await podmanOk('images', '--no-trunc', '--all', '--format', '{{.ID}}')).trim().split('\n');
  assert.deepEqual(
    [...new Set(listed.map((id) => id.replace(/^sha256:/, '')))].toSorted(compare),
    images.map(({ id }) => id).toSorted(compare),
  );
  const pod = await runPod(client());
  for (const [index, image] of all.entries()) {
    assert.equal(await podmanOk('run', ...podmanRunOptions, image, 'cat', '/etc/image-name'), `${image}\n`);
    const id = await runContainer(client(), pod, { name: `reader-${index}`, image, command: ['sleep', '1000'] });
    assert.equal((await execSync(client(), id, ['cat', '/etc/image-name'])).stdout, `${image}\n`);
  }
  assert.ok(images.some(({ repoTags }) => repoTags.includes(busybox)));
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

function oneOf<T>(values: readonly T[]): T {
  const value = values[Math.floor(Math.random() * values.length)];
  if (value === undefined) throw new Error('choose from nothing');
  return value;
}
