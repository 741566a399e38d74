import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { CrioError, hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

/** An editor writes a file in several steps, and a tool several files. */
const quietMs = 200;

/**
 * Calls `reload` when something in the folders has changed and has been quiet for a moment (`auto_reload_registries`).
 * What it throws is logged. A folder that is not there is not watched.
 */
export function watchRegistries(options: {
  readonly folders: readonly string[];
  readonly reload: () => Promise<void>;
  readonly log: Logger;
}): Disposable {
  const { folders, reload, log } = options;
  let timer: NodeJS.Timeout | undefined;
  const onChange = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      reload().catch((error: unknown) => log.error('Unable to reload registry configuration', error));
    }, quietMs);
  };
  const watchers = folders.flatMap((folder) => open(folder, onChange, log) ?? []);
  return {
    [Symbol.dispose]() {
      clearTimeout(timer);
      for (const watcher of watchers) watcher.close();
    },
  };
}

function open(folder: string, onChange: () => void, log: Logger): FSWatcher | undefined {
  try {
    const watcher = watch(folder, { persistent: false }, onChange);
    watcher.on('error', (error) => log.warn(`Folder ${folder} is not watched any more: ${messageOf(error)}`));
    return watcher;
  } catch (error) {
    if (!hasCode(error, 'ENOENT'))
      throw new CrioError('failed-precondition', `watch "${folder}": ${messageOf(error)}`, { cause: error });
    log.warn(`Folder ${folder} is not there and not watched`);
    return undefined;
  }
}
