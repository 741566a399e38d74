import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { silentLog } from '../base/log.ts';
import { storePaths } from './paths.ts';
import { StoreState } from './store-state.ts';

const id = (letter: string) => letter.repeat(64);

function setUp(t: { after: (work: () => void) => void }) {
  const base = mkdtempSync(`${tmpdir()}/store-state-`);
  t.after(() => rmSync(base, { recursive: true }));
  const paths = storePaths({ graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '', driver: 'overlay' });
  for (const folder of [paths.layers, paths.containers, paths.images, paths.runLayers])
    mkdirSync(folder, { recursive: true });
  const open = () => {
    const state = new StoreState(paths, silentLog);
    t.after(() => state.close());
    return state;
  };
  return { paths, open };
}

test('storePaths takes no path that depends on the working directory', () => {
  const good = { graphRoot: '/r', runRoot: '/run', imageStore: '', driver: 'overlay' };
  const wrong = (paths: Partial<typeof good>) => () => storePaths({ ...good, ...paths });
  assert.throws(wrong({ graphRoot: '' }), /^CrioError: root "" is not an absolute path$/);
  assert.throws(wrong({ runRoot: 'run' }), /runroot "run" is not an absolute path/);
  assert.throws(wrong({ imageStore: './i' }), /imagestore "\.\/i" is not an absolute path/);
});

test('StoreState sees what another one wrote, and keeps it when it writes', async (t) => {
  const { open } = setUp(t);
  const [one, two] = [open(), open()];
  await one.transact(async () => one.layers.put({ id: id('a') }, one.files.containerLayers));
  await two.refresh('layers');
  assert.ok(two.layers.get(id('a')));
  await two.transact(async () => two.layers.put({ id: id('b') }, two.files.imageLayers));
  await one.transact(async () => one.layers.put({ id: id('c') }, one.files.containerLayers));
  await two.refresh('layers');
  assert.deepEqual(
    two.layers.list().map((layer) => layer.id[0]),
    ['b', 'a', 'c'],
  );
});

test('StoreState writes a burst of changes with few saves', async (t) => {
  const { paths, open } = setUp(t);
  const state = open();
  const inodes = new Set<number>();
  const work = Array.from({ length: 50 }, (_, number) =>
    state.transact(async () => {
      state.containers.put({ id: number.toString(16).padStart(64, '0'), image: '', layer: '' }, state.files.containers);
    }),
  );
  for (const done of work) {
    await done;
    inodes.add(statSync(`${paths.containers}/volatile-containers.json`).ino);
  }
  assert.equal(JSON.parse(readFileSync(`${paths.containers}/volatile-containers.json`, 'utf8')).length, 50);
  assert.ok(inodes.size <= 3, `${inodes.size} saves`);
});

test('StoreState gives each job its own error and saves the others', async (t) => {
  const { open } = setUp(t);
  const state = open();
  const results = await Promise.allSettled([
    state.transact(async () => state.layers.put({ id: id('a') }, state.files.imageLayers)),
    state.transact(() => Promise.reject(new Error('no'))),
  ]);
  assert.deepEqual(
    results.map((result) => result.status),
    ['fulfilled', 'rejected'],
  );
  const other = open();
  await other.refresh('layers');
  assert.equal(other.layers.list().length, 1);
});

test('StoreState forgets changes that could not be saved', async (t) => {
  const { paths, open } = setUp(t);
  const state = open();
  await state.transact(async () => state.layers.put({ id: id('a') }, state.files.imageLayers));
  rmSync(paths.images, { recursive: true });
  writeFileSync(paths.images, '');
  await assert.rejects(state.transact(async () => state.images.put({ id: id('b') }, state.files.images)));
  rmSync(paths.images);
  mkdirSync(paths.images);
  await state.refresh('images');
  assert.equal(state.images.list().length, 0);
});

for (const [what, damage] of [
  // Not even a temporary file can be made.
  ['written', (images: string) => rmSync(images, { recursive: true })],
  ['put in place', (images: string) => mkdirSync(`${images}/images.json`)],
] as const) {
  test(`StoreState leaves no temporary file when an index cannot be ${what}`, async (t) => {
    const { paths, open } = setUp(t);
    const state = open();
    const change = async (letter: string): Promise<void> => {
      state.layers.put({ id: id(letter), 'diff-digest': 'x' }, state.files.imageLayers);
      state.layers.put({ id: id('9') }, state.files.containerLayers);
      state.mounts.set(id(letter), '/x', 1);
      state.images.put({ id: id(letter) }, state.files.images);
      state.containers.put({ id: id(letter) }, state.files.containers);
    };
    await state.transact(() => change('a'));
    rmSync(state.files.images);
    await assert.rejects(
      state.transact(async () => {
        damage(paths.images);
        await change('b');
      }),
    );
    for (const folder of [paths.layers, paths.runLayers, paths.containers])
      assert.deepEqual(
        readdirSync(folder).filter((name) => name.startsWith('.')),
        [],
      );
  });
}

test('StoreState reads a layers.json that changed without a token', async (t) => {
  const { paths, open } = setUp(t);
  const state = open();
  await state.transact(async () => state.layers.put({ id: id('a') }, state.files.imageLayers));
  writeFileSync(`${paths.layers}/layers.json`, JSON.stringify([{ id: id('d') }]));
  await state.refresh('layers');
  assert.deepEqual(
    state.layers.list().map((layer) => layer.id),
    [id('d')],
  );
});

test('StoreState does not wait for its own locks when somebody writes without them', { timeout: 20_000 }, async (t) => {
  const { paths, open } = setUp(t);
  const state = open();
  await state.transact(async () => state.layers.put({ id: id('a') }, state.files.imageLayers));
  await state.transact(async () => {
    writeFileSync(`${paths.layers}/layers.json`, JSON.stringify([{ id: id('d') }]));
    await state.refresh('layers');
    assert.ok(state.layers.get(id('a')));
  });
  await state.refresh('layers');
  assert.ok(state.layers.get(id('d')));
});

test('StoreState does not wait for its own locks after a save that failed', { timeout: 20_000 }, async (t) => {
  const { paths, open } = setUp(t);
  const state = open();
  await state.transact(async () => state.images.put({ id: id('a') }, state.files.images));
  const change = state.transact(
    async (transaction) => {
      state.images.put({ id: id('b') }, state.files.images);
      rmSync(paths.images, { recursive: true });
      await assert.rejects(transaction.save());
      await state.refresh('images');
      state.images.remove(id('b'));
    },
    { alone: true },
  );
  await assert.rejects(change);
  mkdirSync(paths.images);
  await state.refresh('images');
  assert.deepEqual(state.images.list(), []);
});

test('StoreState writes 64-byte tokens that differ', async (t) => {
  const { paths, open } = setUp(t);
  const state = open();
  const tokens = new Set<string>();
  for (const letter of ['a', 'b']) {
    await state.transact(async () => state.layers.put({ id: id(letter) }, state.files.imageLayers));
    const token = readFileSync(`${paths.layers}/layers.lock`);
    assert.equal(token.length, 64);
    tokens.add(token.toString('hex'));
  }
  assert.equal(tokens.size, 2);
});
