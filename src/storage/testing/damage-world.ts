import { mkdtempSync } from 'node:fs';
import { after } from 'node:test';
import type { TestContext } from 'node:test';
import { silentLog } from '../../base/log.ts';
import { openStore } from '../open-store.ts';
import type { Store, StoreDamage } from '../store.ts';
import { buildImage, layerIds, storeImage } from './build-image.ts';
import { removeWithMounts } from './remove-with-mounts.ts';

export const drivers = ['overlay', 'vfs'] as const;
type DriverName = (typeof drivers)[number];

/** A store that tests harm. */
export interface World {
  readonly base: string;
  readonly driver: DriverName;
  readonly store: Store;
  readonly reopen: () => Promise<Store>;
  /** Content folder of a layer */
  readonly diff: (id: string) => string;
}

const open: Store[] = [];
/** Closes it when the tests of the file are over. */
export function closeLater(store: Store): Store {
  open.push(store);
  return store;
}
after(async () => {
  for (const store of open) await store[Symbol.asyncDispose]();
});

export async function setUp(t: TestContext, driver: DriverName = 'overlay'): Promise<World> {
  const base = mkdtempSync('/tmp/crio-damage-');
  const start = async () => {
    const roots = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '' };
    const store = await openStore({ ...roots, driver, options: [], log: silentLog });
    return closeLater(store);
  };
  t.after(() => {
    removeWithMounts(base);
  });
  const diff = (id: string) =>
    driver === 'overlay' ? `${base}/root/overlay/${id}/diff` : `${base}/root/vfs/dir/${id}`;
  return { base, driver, store: await start(), reopen: start, diff };
}

export const shared = [
  { name: 'etc/', type: '5', mode: 0o755 },
  { name: 'etc/passwd', data: 'root:x:0:0\n' },
  { name: 'etc/empty', data: '' },
  { name: 'bin/sh', data: Buffer.alloc(300_000, 'sh') },
  { name: 'bin/bash', type: '2', linkName: 'sh' },
  { name: 'bin/ash', type: '1', linkName: 'bin/sh' },
];
const upper = [
  { name: 'etc/.wh.empty', data: '' },
  { name: 'srv/', type: '5', mode: 0o755 },
  { name: 'srv/file', data: 'own' },
];
export const image = buildImage([shared, upper]);
export const sibling = buildImage([shared, [{ name: 'other', data: 'x' }]]);
export const lonely = buildImage([[{ name: 'alone', data: 'y' }]]);
export const names = ['example.org/image', 'example.org/sibling', 'example.org/lonely'];

export async function storeAll(store: Store): Promise<string[]> {
  for (const [at, each] of [image, sibling, lonely].entries()) await storeImage(store, each, names[at] ?? '');
  return layerIds(store, image);
}

export const noAge = 365 * 24 * 3600 * 1000;
export const look = (store: Store, contents: boolean) =>
  store.health.walk({ contents, signal: new AbortController().signal });
export const namesOf = async (store: Store) => (await store.images.list()).flatMap((each) => each.names).toSorted();
export const isClean = (damage: StoreDamage) =>
  Object.values(damage).every((map: ReadonlyMap<string, string>) => map.size === 0);

export function createContainer(store: Store, id: string, imageId: string) {
  const rest = { metadata: '', mountLabel: '', uidMap: [], gidMap: [] };
  return store.containers.create({ id, names: [id.slice(0, 8)], layerName: '', imageId, ...rest });
}
