import { createHash } from 'node:crypto';
import { CrioError, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { boolFlag, flag, stringFlag } from '../config/flags.ts';
import { parseDuration } from '../config/go-duration.ts';
import type { ContainerRecord, ImageRecord, Store } from '../storage/store.ts';
import type { Command, CommandContext } from './command.ts';
import { removeStorage } from './store-access.ts';
import type { StoreAccess } from './store-access.ts';

export function checkCommand(access: StoreAccess): Command {
  return {
    name: 'check',
    aliases: [],
    usage: 'check the storage for damage, and repair it',
    flags: [
      flag({ name: 'age', aliases: ['a'], default: '24h', usage: 'largest age of layers that nothing refers to' }),
      flag({ name: 'force', aliases: ['f'], type: 'bool', default: false, usage: 'remove damaged containers' }),
      flag({ name: 'repair', aliases: ['r'], type: 'bool', default: false, usage: 'remove damaged images and layers' }),
      flag({
        name: 'quick',
        aliases: ['q'],
        type: 'bool',
        default: false,
        usage: 'do not read the contents of images',
      }),
      flag({
        name: 'wipe',
        aliases: ['w'],
        type: 'bool',
        default: false,
        usage: 'wipe the storage when the repair fails',
      }),
    ],
    run: (context) => check(context, access),
  };
}

/** What is damaged, by id, with the reason. */
interface Damage {
  readonly images: ReadonlyMap<string, string>;
  readonly containers: ReadonlyMap<string, string>;
}

async function check(context: CommandContext, { openStore }: StoreAccess): Promise<number> {
  const { flags, log } = context;
  checkAge(stringFlag(flags, 'age') ?? '24h');
  await using resources = new AsyncDisposableStack();
  const store = resources.use(await openStore(context.loaded.config, log));
  const damage = await findDamage(store, { readsContents: !boolFlag(flags, 'quick') });
  for (const [id, reason] of [...damage.images, ...damage.containers]) log.debug(`${id}: ${reason}`);
  log.info(`Storage directory ${store.graphRoot} has errors: ${damage.images.size + damage.containers.size > 0}`);
  if (damage.images.size + damage.containers.size === 0) return 0;
  if (!boolFlag(flags, 'repair')) throw counted(damage.images.size, damage.containers.size);
  try {
    await repair(store, damage, { removesContainers: boolFlag(flags, 'force') });
  } catch (error) {
    if (!boolFlag(flags, 'wipe')) throw error;
    await wipe(store, resources, boolFlag(flags, 'force'), log, error);
    return 0;
  }
  if (damage.containers.size > 0 && !boolFlag(flags, 'force')) throw counted(0, damage.containers.size);
  return 0;
}

/** A duration or whole seconds. */
function checkAge(text: string): void {
  if (text !== '' && !/^[+-]?\d+$/.test(text) && parseDuration(text) === undefined) {
    throw new CrioError('invalid', `invalid age "${text}": neither a duration nor seconds`);
  }
}

function counted(images: number, containers: number): CrioError {
  return new CrioError(
    'failed-precondition',
    `storage has errors: layers: 0, read-only layers: 0, images: ${images}, read-only images: 0, containers: ${containers}`,
  );
}

async function findDamage(store: Store, options: { readonly readsContents: boolean }): Promise<Damage> {
  const images = new Map<string, string>();
  for (const image of await store.images.list()) {
    const reason =
      (await imageDamage(store, image)) ?? (options.readsContents ? await dataDamage(store, image) : undefined);
    if (reason !== undefined) images.set(image.id, reason);
  }
  const containers = new Map<string, string>();
  for (const container of await store.containers.list()) {
    const reason = await containerDamage(store, container);
    if (reason !== undefined) containers.set(container.id, reason);
  }
  return { images, containers };
}

async function imageDamage(store: Store, image: ImageRecord): Promise<string | undefined> {
  return image.topLayer === undefined ? undefined : await layerDamage(store, image.topLayer);
}

async function layerDamage(store: Store, top: string): Promise<string | undefined> {
  const seen = new Set<string>();
  for (let id: string | undefined = top; id !== undefined;) {
    if (seen.has(id)) return `layer ${id} is its own parent`;
    seen.add(id);
    const layer = await store.layers.find(id);
    if (layer === undefined) return `layer ${id} is missing`;
    id = layer.parent;
  }
  return undefined;
}

async function dataDamage(store: Store, image: ImageRecord): Promise<string | undefined> {
  for (const [key, digest] of image.bigDataDigests) {
    const data = await store.images.readBigData(image.id, key);
    if (data === undefined) return `data item "${key}" is missing`;
    if (`sha256:${createHash('sha256').update(data).digest('hex')}` !== digest)
      return `data item "${key}" has another digest`;
  }
  return undefined;
}

async function containerDamage(store: Store, container: ContainerRecord): Promise<string | undefined> {
  if (container.imageId !== '' && (await store.images.find(container.imageId)) === undefined) {
    return `image ${container.imageId} is missing`;
  }
  return layerDamage(store, container.layerId);
}

async function repair(store: Store, damage: Damage, options: { readonly removesContainers: boolean }): Promise<void> {
  if (options.removesContainers) {
    for (const id of damage.containers.keys()) {
      await store.containers.unmount(id);
      await store.containers.delete(id);
    }
  }
  for (const id of damage.images.keys()) await store.images.delete(id);
}

async function wipe(
  store: Store,
  resources: AsyncDisposableStack,
  isForced: boolean,
  log: Logger,
  cause: unknown,
): Promise<void> {
  log.warn(`Repair failed, wiping storage directory ${store.graphRoot}: ${messageOf(cause)}`);
  if (!isForced && (await store.containers.list()).length > 0) {
    throw new CrioError('failed-precondition', `wipe storage directory "${store.graphRoot}": a container uses a layer`);
  }
  const { graphRoot } = store;
  await resources.disposeAsync();
  await removeStorage(graphRoot);
}
