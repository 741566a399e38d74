import { CrioError } from '../base/errors.ts';
import { didYouMean } from '../config/nearest.ts';

/** Typed access to a TOML table's values; errors name the key. A key is found exactly, else in any case of its letters. */
export class TomlTableReader {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #path: string;
  readonly #asked = new Set<string>();
  readonly #below: TomlTableReader[] = [];

  constructor(value: unknown, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new CrioError('invalid', `${path}: expected a table`);
    this.#values = Object.fromEntries(Object.entries(value));
    this.#path = path;
  }

  get keys(): readonly string[] {
    return Object.keys(this.#values);
  }

  /** One text for each key here and below that nothing has asked for. To be called when all is read. */
  unknownKeys(): readonly string[] {
    const own = this.keys.filter((key) => !this.#asked.has(key) && this.#nameAsked(key) === undefined);
    const known = [...this.#asked];
    return [
      ...own.map((key) => `unknown key "${this.#name(key)}" is ignored${didYouMean(key, known)}`),
      ...this.#below.flatMap((reader) => reader.unknownKeys()),
    ];
  }

  /** The name under which a key in other letter case has been found. */
  #nameAsked(key: string): string | undefined {
    const lower = key.toLowerCase();
    return this.#asked.has(lower) && !Object.hasOwn(this.#values, lower) ? lower : undefined;
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
    return value === undefined ? undefined : this.#reader(value, this.#name(key));
  }

  tables(key: string): readonly TomlTableReader[] {
    const value = this.#get(key) ?? [];
    if (!Array.isArray(value)) throw this.#wrong(key, 'a list of tables');
    return value.map((item: unknown, index) => this.#reader(item, `${this.#name(key)}[${index}]`));
  }

  #reader(value: unknown, path: string): TomlTableReader {
    const reader = new TomlTableReader(value, path);
    this.#below.push(reader);
    return reader;
  }

  #get(key: string): unknown {
    this.#asked.add(key);
    if (Object.hasOwn(this.#values, key)) return this.#values[key];
    const other = this.keys.find((name) => name.toLowerCase() === key);
    return other === undefined ? undefined : this.#values[other];
  }

  #name(key: string): string {
    return this.#path === '' ? key : `${this.#path}.${key}`;
  }

  #wrong(key: string, want: string): CrioError {
    return new CrioError('invalid', `${this.#name(key)}: expected ${want}`);
  }
}
