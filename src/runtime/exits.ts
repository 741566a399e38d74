import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import { isThere } from '../base/is-there.ts';
import { hasOomFile, readExitFile } from './exit-file.ts';
import type { ExitRecord } from './runtime.ts';

export interface WatchExitsOptions {
  /** The exits folder, which exists. */
  readonly dir: string;
  readonly log: Logger;
  /**
   * Called once for each exit file; its errors are logged. It, or a later part, removes the file. When it answers false,
   * nobody knows the container: it is asked again, and then the file is removed.
   */
  readonly onExit: (record: ExitRecord) => Promise<unknown>;
  /** The persist directory of a container: its `exit` file is the one that counts, and `oom` lies beside it. */
  readonly persistDirOf?: (containerId: string) => string | undefined;
  readonly rescanMs?: number;
  /** How long somebody may take to know of a container whose exit file is there already. */
  readonly unknownMs?: number;
}

const defaultRescanMs = 5000;
const defaultUnknownMs = 30_000;

/**
 * Reports the ends of containers as their monitors write them. The first scan reports what happened while nobody
 * watched. A notification only means "look": the kernel drops them when its queue is full, so the folder is read again
 * on a timer as well.
 */
export function watchExits(options: WatchExitsOptions): AsyncDisposable {
  const watcher = new ExitsWatcher(options);
  watcher.start();
  return watcher;
}

class ExitsWatcher implements AsyncDisposable {
  readonly #options: WatchExitsOptions;
  /** Reported and still lying there. */
  readonly #reported = new Set<string>();
  /** Of those the ones that nobody knew, and since when (ms, monotonic). */
  readonly #unknown = new Map<string, number>();
  readonly #running = new Set<Promise<void>>();
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: WatchExitsOptions) {
    this.#options = options;
  }

  start(): void {
    const { dir, log, rescanMs } = this.#options;
    this.#watcher = watch(dir, (_event, name) => {
      // conmon makes `<id>.XXXXXX` and renames it.
      if (name === null) this.#track(this.#scan());
      else if (isId(name)) this.#track(this.#report(name));
    });
    this.#watcher.on('error', (error) => log.error(`watch exits folder "${dir}"`, error));
    this.#timer = setInterval(() => this.#track(this.#scan()), rescanMs ?? defaultRescanMs);
    this.#timer.unref();
    this.#track(this.#scan());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#watcher?.close();
    clearInterval(this.#timer);
    await Promise.all(this.#running);
  }

  #track(work: Promise<void>): void {
    const { dir, log } = this.#options;
    const tracked = work.catch((error: unknown) => log.error(`handle exit files in "${dir}"`, error));
    this.#running.add(tracked);
    void tracked.finally(() => this.#running.delete(tracked));
  }

  async #scan(): Promise<void> {
    const names = (await readdir(this.#options.dir)).filter(isId);
    const present = new Set(names);
    for (const name of this.#reported) if (!present.has(name)) this.#reported.delete(name);
    for (const [name, sinceMs] of this.#unknown) {
      if (!present.has(name)) this.#unknown.delete(name);
      else if (performance.now() - sinceMs >= (this.#options.unknownMs ?? defaultUnknownMs))
        this.#reported.delete(name);
    }
    await Promise.all(names.map((name) => this.#report(name)));
  }

  async #report(id: string): Promise<void> {
    if (this.#closed || this.#reported.has(id)) return;
    this.#reported.add(id);
    const record = await readExitRecord(this.#options, id);
    // Gone again (handled otherwise), or not yet complete: a later look decides.
    if (record === undefined) this.#reported.delete(id);
    else if ((await this.#options.onExit(record)) === false) await this.#leaveOrRemove(id);
  }

  /**
   * A monitor may write its file after the removal of its container has cleaned up. What storage still has (a container
   * that is being made, or could not be restored) keeps its file.
   */
  async #leaveOrRemove(id: string): Promise<void> {
    const { dir, log, persistDirOf } = this.#options;
    const isSecondTime = this.#unknown.has(id);
    const persistDir = persistDirOf?.(id);
    this.#unknown.set(id, performance.now());
    if (!isSecondTime || (persistDir !== undefined && (await isThere(persistDir)))) return;
    await rm(join(dir, id), { force: true });
    log.info(`Removed exit file of container ${id}, which nobody knows`);
  }
}

/** The persist directory's file was written first and survives; the exits folder has the same text. */
async function readExitRecord(options: WatchExitsOptions, id: string): Promise<ExitRecord | undefined> {
  const persistDir = options.persistDirOf?.(id);
  const exit =
    (persistDir === undefined ? undefined : await readExitFile(join(persistDir, 'exit'))) ??
    (await readExitFile(join(options.dir, id)));
  if (exit === undefined) return undefined;
  const oomKilled = persistDir !== undefined && (await hasOomFile(persistDir));
  return { containerId: id, ...exit, oomKilled };
}
