import { writeFile } from 'node:fs/promises';
import { isThere } from '../base/is-there.ts';
import type { Logger } from '../base/log.ts';
import { runtimeVersion } from '../base/version.ts';
import { boolFlag, flag } from '../config/flags.ts';
import { wasStoppedCleanly } from '../daemon/clean-shutdown.ts';
import { saysOtherRelease } from '../daemon/version-file.ts';
import type { Store } from '../storage/store.ts';
import type { Command, CommandContext } from './command.ts';
import { crioContainer, removeStorage } from './store-access.ts';
import type { StoreAccess } from './store-access.ts';

/** On tmpfs: an unclean stop clears the storage directory once per boot. */
const doneMarker = '/run/crio/crio-wipe-done';

export function wipeCommand(access: StoreAccess): Command {
  return {
    name: 'wipe',
    aliases: [],
    usage: 'wipe containers and images of another version of crio',
    flags: [
      flag({
        name: 'force',
        aliases: ['f'],
        type: 'bool',
        default: false,
        usage: 'wipe whatever the version files say',
      }),
    ],
    run: (context) => wipe(context, access),
  };
}

async function wipe(context: CommandContext, { openStore }: StoreAccess): Promise<number> {
  const { log } = context;
  const { config } = context.loaded;
  const isForced = boolFlag(context.flags, 'force');
  const store = await openStore(config, log);
  await using resources = new AsyncDisposableStack();
  resources.use(store);
  const wipesContainers = isForced || (await saysOtherRelease(config.crio.versionFile, runtimeVersion));
  const wipesImages = isForced || (await saysOtherRelease(config.crio.versionFilePersist, runtimeVersion));
  if (wipesContainers && !(await wasStoppedCleanly(config.crio.cleanShutdownFile))) {
    log.info(`File ${config.crio.cleanShutdownFile} not found: the last stop was not clean`);
    if (await isThere(doneMarker)) return 0;
    const { graphRoot } = store;
    await resources.disposeAsync();
    await removeStorage(graphRoot);
    await writeMarker(log);
    return 0;
  }
  // The daemon does it at start.
  if (config.crio.internalWipe && !isForced) return 0;
  if (wipesContainers) await wipeStore(store, wipesImages, log);
  return 0;
}

/** Single failures are only logged. */
async function wipeStore(store: Store, wipesImages: boolean, log: Logger): Promise<void> {
  const images = new Set<string>();
  for (const record of await store.containers.list()) {
    const container = crioContainer(record);
    if (container === undefined) continue;
    if (container.imageId !== '') images.add(container.imageId);
    await attempt(log, `container ${container.name}`, () => store.containers.delete(record.id));
  }
  if (!wipesImages) return;
  for (const id of images) await attempt(log, `image ${id}`, () => store.images.delete(id));
}

async function attempt(log: Logger, what: string, act: () => Promise<unknown>): Promise<void> {
  try {
    await act();
    log.info(`Deleted ${what}`);
  } catch (error) {
    log.warn(`Unable to delete ${what}`, error);
  }
}

async function writeMarker(log: Logger): Promise<void> {
  try {
    await writeFile(doneMarker, 'done', { mode: 0o644 });
  } catch (error) {
    log.warn(`Unable to write "${doneMarker}"`, error);
  }
}
