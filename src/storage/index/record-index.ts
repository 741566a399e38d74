import { createHash } from 'node:crypto';
import { basename, dirname } from 'node:path';
import { CrioError, messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { allPrepared, atomicWrite, prepareWrite } from './atomic-write.ts';
import type { PreparedWrite } from './atomic-write.ts';
import { FieldError } from './json-fields.ts';
import type { JsonObject } from './json-fields.ts';
import { parseRecords } from './parse-records.ts';
import { join, mtimeOf, readText } from './record-file.ts';
import type { Entry, RecordFile, RecordFileOptions } from './record-file.ts';

/** What every kind of record has. */
export interface Named {
  readonly id: string;
  readonly names: readonly string[];
}

/**
 * The records of one kind in memory, from one or more JSON files that other programs read and write as well.
 * Whoever calls `load` or `save` holds the lock file of this kind.
 */
export class RecordIndex<R extends Named> {
  readonly #files: readonly RecordFile<R>[];
  readonly #parse: (raw: JsonObject) => R;
  readonly #log: Logger;
  /** As they are seen: with shared names, a file's own entry may have fewer. */
  #byId = new Map<string, { readonly file: RecordFile<R>; readonly entry: Entry<R> }>();
  #byName = new Map<string, string>();
  #list: readonly R[] | undefined;
  /** A record was unreadable: what looks like an orphan on disk may be its data. */
  hasDamage = false;

  readonly #isReadOnly: boolean;
  readonly #sharesNames: boolean;

  constructor(options: {
    files: readonly RecordFileOptions[];
    parse: (raw: JsonObject) => R;
    log: Logger;
    /** Nothing is ever written, not even damaged records beside the file. */
    isReadOnly?: boolean;
    /** A record that is seen has the names of those too that it hides; else these names are nobody's. */
    sharesNames?: boolean;
  }) {
    this.#isReadOnly = options.isReadOnly === true;
    this.#sharesNames = options.sharesNames === true;
    this.#files = options.files.map((file) => ({
      ...file,
      entries: new Map(),
      hidden: new Map(),
      mtimeNs: undefined,
      dirty: false,
    }));
    this.#parse = options.parse;
    this.#log = options.log;
  }

  /** All records, file after file, in the order in which they were added. */
  list(): readonly R[] {
    this.#list ??= this.#files.flatMap((file) => [...file.entries.keys()].flatMap((id) => this.get(id) ?? []));
    return this.#list;
  }

  /** Those too whose id an earlier file has: what they name is in use. */
  listHidden(): readonly R[] {
    return this.#files.flatMap((file) => [...file.hidden.values()].map((entry) => entry.record));
  }

  get(id: string): R | undefined {
    return this.#byId.get(id)?.entry.record;
  }

  getByName(name: string): R | undefined {
    const id = this.#byName.get(name);
    return id === undefined ? undefined : this.get(id);
  }

  /** By exact id, then name, then unique prefix of an id; an ambiguous prefix finds nothing. */
  find(idOrName: string): R | undefined {
    return this.get(idOrName) ?? this.getByName(idOrName) ?? this.#findByPrefix(idOrName);
  }

  /** Keys of the record as they stand in the file, and its names as they are seen. */
  raw(id: string): JsonObject | undefined {
    return this.#byId.get(id)?.entry.raw;
  }

  fileOf(id: string): string | undefined {
    return this.#byId.get(id)?.file.path;
  }

  /** Every file with a record of this id. */
  filesOf(id: string): readonly string[] {
    return this.#files.filter(({ entries, hidden }) => entries.has(id) || hidden.has(id)).map(({ path }) => path);
  }

  /** Adds a record, or replaces the one with its id where that is. Throws already-exists when a name is taken. */
  put(raw: JsonObject, path: string): R {
    const entry = this.#entry(raw);
    const { id, names } = entry.record;
    for (const name of names) {
      const owner = this.#byName.get(name);
      if (owner !== undefined && owner !== id)
        throw new CrioError('already-exists', `name "${name}" is in use by ${owner}`);
    }
    const before = this.#byId.get(id);
    if (before !== undefined) this.#forgetNames(before.entry.record);
    const file = before?.file ?? this.#file(path);
    this.#putEntry(file, entry);
    this.#show(id, file);
    for (const name of names) this.#byName.set(name, id);
    return this.get(id) ?? entry.record;
  }

  /** From every file that has it. */
  remove(id: string): void {
    const found = this.#byId.get(id);
    if (found === undefined) return;
    this.#forgetNames(found.entry.record);
    found.file.entries.delete(id);
    this.#byId.delete(id);
    this.#changed(found.file);
    for (const file of this.#files) if (file.hidden.delete(id)) this.#changed(file);
  }

  get isDirty(): boolean {
    return this.#files.some((file) => file.dirty);
  }

  /** True when another program replaced a file; tokens alone do not tell for layers. */
  filesChanged(): boolean {
    return this.#files.some((file) => mtimeOf(file.path) !== file.mtimeNs);
  }

  /** Reads all files again; changes in memory that were not saved are gone. */
  async load(): Promise<void> {
    const contents = await Promise.all(this.#files.map((file) => readText(file.path)));
    this.#byId = new Map();
    this.#byName = new Map();
    this.#list = undefined;
    // Nothing is awaited before all files are in memory: readers look at it meanwhile.
    const refused = this.#files.map((file, position) => {
      const content = contents[position];
      file.entries = new Map();
      file.hidden = new Map();
      file.dirty = false;
      file.mtimeNs = content?.mtimeNs;
      return this.#loadFile(file, content?.text ?? '');
    });
    for (const [position, file] of this.#files.entries()) await this.#quarantine(file, refused[position] ?? []);
  }

  /** Writes the files that changed under temporary names, ready to be put in place. */
  async prepareSave(): Promise<readonly PreparedWrite[]> {
    const dirty = this.#files.filter((file) => file.dirty);
    for (const file of dirty) file.dirty = false;
    return allPrepared(
      dirty.map(async (file) => {
        const prepared = await prepareWrite(file.path, join([...file.hidden.values(), ...file.entries.values()]), file);
        const commit = async () => {
          await prepared.commit();
          file.mtimeNs = prepared.mtimeNs;
        };
        return [{ ...prepared, commit }];
      }),
    );
  }

  #findByPrefix(prefix: string): R | undefined {
    if (!/^[a-f0-9]+$/.test(prefix)) return undefined;
    let found: R | undefined;
    for (const record of this.list()) {
      if (!record.id.startsWith(prefix)) continue;
      if (found !== undefined) return undefined;
      found = record;
    }
    return found;
  }

  #file(path: string): RecordFile<R> {
    const file = this.#files.find((candidate) => candidate.path === path);
    if (file === undefined) throw new CrioError('internal', `index file "${path}" is unknown`);
    return file;
  }

  #entry(raw: JsonObject): Entry<R> {
    return { record: this.#parse(raw), raw, text: Buffer.from(JSON.stringify(raw)) };
  }

  #renamed({ raw }: Entry<R>, names: readonly string[]): Entry<R> {
    const renamed: JsonObject = { ...raw, names };
    if (names.length === 0) delete renamed['names'];
    return this.#entry(renamed);
  }

  /**
   * A name stays in the files that have it, and only there: in others it would come back when another program, which may
   * know one file alone, takes it away. One that no file has goes to `file`.
   */
  #putEntry(file: RecordFile<R>, entry: Entry<R>): void {
    const { id, names } = entry.record;
    const elsewhere = this.#hiddenNames(id);
    const own = file.entries.get(id)?.record.names ?? [];
    const kept = names.filter((name) => own.includes(name) || !elsewhere.has(name));
    file.entries.set(id, kept.length === names.length ? entry : this.#renamed(entry, kept));
    this.#changed(file);
    if (this.#sharesNames) this.#keepHiddenNames(id, names);
  }

  #keepHiddenNames(id: string, names: readonly string[]): void {
    for (const file of this.#files) {
      const entry = file.hidden.get(id);
      if (entry === undefined) continue;
      const kept = entry.record.names.filter((name) => names.includes(name));
      if (kept.length === entry.record.names.length) continue;
      file.hidden.set(id, this.#renamed(entry, kept));
      this.#changed(file);
    }
  }

  #hiddenNames(id: string): ReadonlySet<string> {
    if (!this.#sharesNames) return new Set();
    return new Set(this.#files.flatMap(({ hidden }) => hidden.get(id)?.record.names ?? []));
  }

  /** Makes the record that `file` has of this id the one that is seen. */
  #show(id: string, file: RecordFile<R>): void {
    const own = file.entries.get(id);
    if (own === undefined) return;
    const { names } = own.record;
    const others = [...this.#hiddenNames(id)].filter((name) => !names.includes(name));
    this.#byId.set(id, { file, entry: others.length === 0 ? own : this.#renamed(own, [...names, ...others]) });
  }

  #changed(file: RecordFile<R>): void {
    file.dirty = true;
    this.#list = undefined;
  }

  #forgetNames(record: R): void {
    for (const name of record.names) if (this.#byName.get(name) === record.id) this.#byName.delete(name);
  }

  /** Returns the text of records that cannot be read. */
  #loadFile(file: RecordFile<R>, text: string): readonly string[] {
    const { records, damaged } = parseRecords(text);
    const refused = [...damaged];
    for (const raw of records) {
      const entry = this.#parseLoaded(raw, file, refused);
      if (entry === undefined) continue;
      // An id that an earlier file has wins over the same in a later one.
      const first = this.#byId.get(entry.record.id)?.file;
      if (first !== undefined && first !== file) file.hidden.set(entry.record.id, entry);
      if (first !== undefined) continue;
      file.entries.set(entry.record.id, entry);
      this.#byId.set(entry.record.id, { file, entry });
    }
    for (const id of [...(this.#sharesNames ? file.hidden.keys() : []), ...file.entries.keys()]) this.#claimNames(id);
    if (refused.length > 0) this.hasDamage = true;
    return refused;
  }

  #parseLoaded(raw: JsonObject, file: RecordFile<R>, refused: string[]): Entry<R> | undefined {
    try {
      return this.#entry(raw);
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      this.#log.warn(`record in "${file.path}" is set aside: ${messageOf(error)}`);
      refused.push(JSON.stringify(raw));
      return undefined;
    }
  }

  /** A name that two records have stays with the later one; the file is rewritten when somebody writes it next. */
  #claimNames(id: string): void {
    const file = this.#byId.get(id)?.file;
    if (file === undefined) return;
    this.#show(id, file);
    for (const name of this.get(id)?.names ?? []) {
      const other = this.#byName.get(name);
      if (other !== undefined && other !== id) this.#takeName(other, name);
      this.#byName.set(name, id);
    }
  }

  #takeName(id: string, name: string): void {
    const found = this.#byId.get(id);
    if (found === undefined) return;
    const isKept = (candidate: string) => candidate !== name;
    this.#putEntry(found.file, this.#renamed(found.entry, found.entry.record.names.filter(isKept)));
    this.#show(id, found.file);
  }

  /** Keeps the text of unreadable records beside the index, once: the next save of the index leaves them out. */
  async #quarantine(file: RecordFile<R>, refused: readonly string[]): Promise<void> {
    if (refused.length === 0 || this.#isReadOnly) return;
    const content = JSON.stringify({ version: 1, file: file.path, records: refused });
    const tag = createHash('sha256').update(content).digest('hex').slice(0, 12);
    const path = `${dirname(file.path)}/quarantine-${basename(file.path, '.json')}-${tag}.json`;
    this.#log.warn(`"${file.path}" has ${refused.length} unreadable records; they are kept in "${path}"`);
    try {
      await atomicWrite(path, Buffer.from(content), { durable: true });
    } catch (error) {
      this.#log.warn(`write "${path}"`, error);
    }
  }
}
