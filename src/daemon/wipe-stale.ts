import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { saysOtherRelease } from './version-file.ts';

export interface WipeDeps {
  /** Lies in memory: missing after a reboot. */
  readonly versionFile: string;
  /** Lies on disk: another release there makes images stale as well. */
  readonly versionFilePersist: string;
  readonly version: string;
  readonly podIds: () => readonly string[];
  readonly removePod: (id: string) => Promise<void>;
  /** Images of all pods and containers, also of those that could not be restored. */
  readonly usedImages: () => Promise<readonly string[]>;
  readonly removeImage: (id: string) => Promise<void>;
  readonly log: Logger;
}

/** A network that does not answer keeps one removal busy for a minute: a node's worth of pods must not add up. */
const atOnce = 8;

/**
 * After a reboot or an upgrade nothing of the old pods can be trusted to run: they are removed, and after an upgrade the
 * images they used too (cli 5, internal_wipe). A failure is logged, the rest goes on.
 */
export async function wipeStale(deps: WipeDeps): Promise<void> {
  const imagesToo = await saysOtherRelease(deps.versionFilePersist, deps.version);
  if (!imagesToo && !(await saysOtherRelease(deps.versionFile, deps.version))) return;
  const images = imagesToo ? await deps.usedImages() : [];
  await eachOf(deps.podIds(), (id) => attempt(deps.log, `wipe pod ${id}`, () => deps.removePod(id)));
  await eachOf(images, (id) => attempt(deps.log, `wipe image ${id}`, () => deps.removeImage(id)));
}

async function eachOf(ids: readonly string[], work: (id: string) => Promise<void>): Promise<void> {
  const left = [...new Set(ids)];
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let id = left.pop(); id !== undefined; id = left.pop()) await work(id);
    }),
  );
}

async function attempt(log: Logger, what: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    log.warn(`${what}: ${messageOf(error)}`);
  }
}
