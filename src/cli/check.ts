import { join } from 'node:path';
import { CrioError, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { boolFlag, flag, stringFlag } from '../config/flags.ts';
import { parseDuration } from '../config/go-duration.ts';
import { artifactDamage } from '../image/artifacts/artifact-damage.ts';
import { ArtifactStore } from '../image/artifacts/artifact-store.ts';
import type { RepairedImage, Store, StoreDamage } from '../storage/store.ts';
import { ArgumentsError } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { warnAboutContainerFiles } from './container-files.ts';
import { removeStorage } from './store-access.ts';
import type { StoreAccess } from './store-access.ts';

const defaultAgeMs = 24 * 60 * 60 * 1000;

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

async function check(context: CommandContext, { openStore }: StoreAccess): Promise<number> {
  const { args, flags, log } = context;
  if (args[0] !== undefined) throw new ArgumentsError(`unexpected argument "${args[0]}"`);
  const maxAgeMs = ageOf(stringFlag(flags, 'age') ?? '');
  const isForced = boolFlag(flags, 'force');
  await warnAboutContainerFiles(context);
  await using resources = new AsyncDisposableStack();
  const store = resources.use(await openStore(context.loaded.config, log));
  const contents = !boolFlag(flags, 'quick');
  const artifacts = new ArtifactStore(join(store.graphRoot, 'artifacts'), log);
  const artifactFaults = await artifactDamage(artifacts, { contents, signal: new AbortController().signal });
  const storage = await store.health.check({ contents, maxAgeMs });
  // CRI-O's text has no word for them.
  const damage = {
    ...storage,
    images: new Map([...storage.images, ...artifactFaults]),
    names: new Map([...storage.names, ...(await artifactNames(artifacts, artifactFaults))]),
  };
  report(damage, log);
  const isDamaged = Object.values(countsOf(damage)).some((count) => count > 0);
  log.info(`Storage directory ${store.graphRoot} has errors: ${isDamaged}`);
  if (!isDamaged) return 0;
  if (!boolFlag(flags, 'repair')) throw counted(damage);
  try {
    reportRepaired(await store.health.repair(storage, { containers: isForced }), damage, log);
    await removeArtifacts(artifacts, artifactFaults);
    reportRepaired(new Map([...artifactFaults.keys()].map((id) => [id, { usedBy: undefined }])), damage, log);
    log.info('Repaired: what is damaged will be pulled again when it is asked for');
  } catch (error) {
    if (!boolFlag(flags, 'wipe')) throw error;
    await wipe(store, resources, isForced, log, error);
    return 0;
  }
  const none: ReadonlyMap<string, string> = new Map();
  const left = { ...damage, layers: none, images: none, containers: isForced ? none : damage.containers };
  if (Object.values(countsOf(left)).some((count) => count > 0)) throw counted(left);
  return 0;
}

async function removeArtifacts(artifacts: ArtifactStore, damaged: ReadonlyMap<string, string>): Promise<void> {
  for (const { digest, image } of await artifacts.contents())
    if (damaged.has(image.id)) await artifacts.remove(digest, undefined);
}

async function artifactNames(
  artifacts: ArtifactStore,
  damaged: ReadonlyMap<string, string>,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const names = new Map<string, readonly string[]>();
  for (const { image } of await artifacts.contents())
    if (damaged.has(image.id)) names.set(image.id, image.repoTags.length > 0 ? image.repoTags : image.repoDigests);
  return names;
}

function report(damage: StoreDamage, log: Logger): void {
  const kinds = [
    ['layer', damage.layers],
    ['read-only layer', damage.readOnlyLayers],
    ['image', damage.images],
    ['read-only image', damage.readOnlyImages],
    ['container', damage.containers],
  ] as const;
  for (const [kind, reasons] of kinds)
    for (const [id, reason] of reasons) log.info(`${kind} ${named(id, damage)}: ${reason}`);
}

/** With names, as nobody knows an image by its id, least of all when it is deleted. */
function named(id: string, { names }: StoreDamage): string {
  const known = names.get(id) ?? [];
  return known.length === 0 ? id : `${id} (${known.join(', ')})`;
}

function reportRepaired(images: ReadonlyMap<string, RepairedImage>, damage: StoreDamage, log: Logger): void {
  for (const [id, { usedBy }] of images) {
    const outcome = usedBy === undefined ? 'deleted' : `used by container ${usedBy}, set aside`;
    log.info(`image ${named(id, damage)}: ${outcome}: pull it again`);
  }
}

/** A duration or whole seconds, in ms; the sign is ignored, as CRI-O does. */
function ageOf(text: string): number {
  if (text === '') return defaultAgeMs;
  if (/^[+-]?\d+$/.test(text)) return Math.abs(Number(text)) * 1000;
  const ms = parseDuration(text);
  if (ms === undefined) throw new CrioError('invalid', `invalid age "${text}": neither a duration nor seconds`);
  return Math.abs(ms);
}

function countsOf(damage: StoreDamage): Readonly<Record<string, number>> {
  return {
    layers: damage.layers.size,
    'read-only layers': damage.readOnlyLayers.size,
    images: damage.images.size,
    'read-only images': damage.readOnlyImages.size,
    containers: damage.containers.size,
  };
}

function counted(damage: StoreDamage): CrioError {
  const counts = Object.entries(countsOf(damage)).map(([kind, count]) => `${kind}: ${count}`);
  return new CrioError('failed-precondition', `storage has errors: ${counts.join(', ')}`);
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
