import { watch, type FSWatcher } from 'node:fs';
import type { Logger } from '../../base/log.ts';

/**
 * Calls `changed` after any change in the folders. Events mean "look again": while a look is under way further ones are
 * joined into one more look after it.
 */
export class DirectoryWatch implements Disposable {
  readonly #watchers: FSWatcher[] = [];
  readonly #changed: () => Promise<void>;
  readonly #log: Logger;
  #running = false;
  #again = false;
  #closed = false;

  constructor(directories: readonly string[], changed: () => Promise<void>, log: Logger) {
    this.#changed = changed;
    this.#log = log;
    for (const directory of directories) this.#watch(directory);
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    for (const watcher of this.#watchers) watcher.close();
  }

  #watch(directory: string): void {
    try {
      const watcher = watch(directory, { persistent: false }, () => this.#notice());
      watcher.on('error', (error) => this.#log.warn(`watch "${directory}"`, error));
      this.#watchers.push(watcher);
    } catch (error) {
      this.#log.warn(`watch "${directory}"`, error);
    }
  }

  #notice(): void {
    this.#again = true;
    if (this.#running || this.#closed) return;
    this.#running = true;
    this.#look()
      .catch((error: unknown) => this.#log.error('reload CNI configuration', error))
      .finally(() => {
        this.#running = false;
        if (this.#again && !this.#closed) this.#notice();
      });
  }

  async #look(): Promise<void> {
    while (this.#again && !this.#closed) {
      this.#again = false;
      await this.#changed();
    }
  }
}
