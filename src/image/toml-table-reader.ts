import { CrioError } from '../base/errors.ts';

/** Typed access to a TOML table's values; errors name the key. */
export class TomlTableReader {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #path: string;

  constructor(value: unknown, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new CrioError('invalid', `${path}: expected a table`);
    this.#values = Object.fromEntries(Object.entries(value));
    this.#path = path;
  }

  get keys(): readonly string[] {
    return Object.keys(this.#values);
  }

  string(key: string): string | undefined {
    const value = this.#get(key);
    if (value === undefined || typeof value === 'string') return value;
    throw this.#wrong(key, 'a string');
  }

  boolean(key: string): boolean | undefined {
    const value = this.#get(key);
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.#wrong(key, 'true or false');
  }

  strings(key: string): readonly string[] | undefined {
    const value = this.#get(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) throw this.#wrong(key, 'a list of strings');
    return value.map((item: unknown) => {
      if (typeof item !== 'string') throw this.#wrong(key, 'a list of strings');
      return item;
    });
  }

  table(key: string): TomlTableReader | undefined {
    const value = this.#get(key);
    return value === undefined ? undefined : new TomlTableReader(value, this.#name(key));
  }

  tables(key: string): readonly TomlTableReader[] {
    const value = this.#get(key) ?? [];
    if (!Array.isArray(value)) throw this.#wrong(key, 'a list of tables');
    return value.map((item: unknown, index) => new TomlTableReader(item, `${this.#name(key)}[${index}]`));
  }

  #get(key: string): unknown {
    return Object.hasOwn(this.#values, key) ? this.#values[key] : undefined;
  }

  #name(key: string): string {
    return this.#path === '' ? key : `${this.#path}.${key}`;
  }

  #wrong(key: string, want: string): CrioError {
    return new CrioError('invalid', `${this.#name(key)}: expected ${want}`);
  }
}
