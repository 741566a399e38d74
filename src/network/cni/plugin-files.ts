import { findPlugin } from './plugin.ts';

/** Where plugins lie. What was found is remembered until a change in the folders is noticed. */
export class PluginFiles {
  readonly #directories: readonly string[];
  readonly #known = new Map<string, string>();

  constructor(directories: readonly string[]) {
    this.#directories = directories;
  }

  /** The value of CNI_PATH. */
  get path(): string {
    return this.#directories.join(':');
  }

  /** Without a look at the disk. */
  known(type: string): string | undefined {
    return this.#known.get(type);
  }

  async find(type: string): Promise<string> {
    const file = await findPlugin(type, this.#directories);
    this.#known.set(type, file);
    return file;
  }

  forget(): void {
    this.#known.clear();
  }
}
