import { statSync } from 'node:fs';
import { mkdir, readFile, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { formatTimeNs, systemClock } from '../../base/clock.ts';
import { hasCode, messageOf } from '../../base/errors.ts';
import { atomicWrite } from '../index/atomic-write.ts';
import { isObject, isText } from '../index/json-fields.ts';
import type { ImageRecord } from '../store.ts';
import type { StoreState } from '../store-state.ts';
import { namesToPull } from './names-to-pull.ts';

/** Why an image does not count as present. */
export interface ImageDamage {
  /** What is wrong with its own record and data; empty when only layers are damaged. */
  readonly data: string;
  /** Reason for each damaged layer of its chain, by id. */
  readonly layers: ReadonlyMap<string, string>;
}

interface Entry {
  readonly damage: ImageDamage;
  /** Undefined for an image of an additional store, where nothing is written: found anew after each start. */
  readonly path: string | undefined;
  /** Of the file when it was written or read; undefined when it is another one by now. */
  readonly fileVersion?: string | undefined;
}

const version = 1;
const fileName = 'crio-damage.json';

/**
 * Images that were found damaged. Each has a small file in its own data folder, so that whoever deletes the image takes
 * the mark away with it; the record in the shared index stays as it is.
 */
export class Quarantine {
  readonly #state: StoreState;
  readonly #entries = new Map<string, Entry>();
  /** Changes whenever an image enters or leaves. */
  #generation = 0;

  constructor(state: StoreState) {
    this.#state = state;
  }

  get generation(): number {
    this.#dropDeleted();
    return this.#generation;
  }

  /** Reads the marks of the images in the index that it does not know, as those that another process wrote. */
  async load(): Promise<void> {
    for (const { id } of this.#state.images.list()) {
      const path = this.#path(id);
      const fileVersion = versionOf(path);
      if (fileVersion === undefined || fileVersion === this.#entries.get(id)?.fileVersion) continue;
      try {
        this.#set(id, { damage: parseDamage(await readFile(path, 'utf8')), path, fileVersion });
      } catch (error) {
        if (hasCode(error, 'ENOENT')) continue;
        // The mark itself says enough.
        this.#state.log.warn(`read "${path}"`, error);
        const damage = { data: `its mark cannot be read: ${messageOf(error)}`, layers: new Map() };
        this.#set(id, { damage, path, fileVersion });
      }
    }
  }

  damageOf(imageId: string): ImageDamage | undefined {
    this.#dropDeleted();
    return this.#entries.get(imageId)?.damage;
  }

  images(): readonly string[] {
    this.#dropDeleted();
    return [...this.#entries.keys()];
  }

  /** The layer must be unpacked again. */
  hasLayer(layerId: string): boolean {
    this.#dropDeleted();
    for (const { damage } of this.#entries.values()) if (damage.layers.has(layerId)) return true;
    return false;
  }

  /** False when the mark is not on the disk: whoever opens the store next does not know of it. */
  async add(image: ImageRecord, damage: ImageDamage, options: { readonly isReadOnly: boolean }): Promise<boolean> {
    const imageId = image.id;
    this.#set(imageId, { damage, path: undefined });
    const reason = describeDamage(damage);
    this.#state.log.warn(`image ${nameOf(image)} is damaged and does not count as present: ${reason}`);
    if (options.isReadOnly) return false;
    const path = this.#path(imageId);
    try {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await atomicWrite(path, Buffer.from(formatDamage(damage)), { durable: true });
      this.#set(imageId, { damage, path, fileVersion: versionOf(path) });
      this.#state.announceImages();
      return true;
    } catch (error) {
      // A disk that takes no write any more: until the next start it is known here.
      this.#state.log.warn(`write "${path}"`, error);
      return false;
    }
  }

  /** New content of a layer is in place, durable. */
  async layerReplaced(layerId: string): Promise<void> {
    for (const [imageId, entry] of [...this.#entries]) {
      const { damage } = entry;
      if (!damage.layers.has(layerId)) continue;
      const layers = new Map([...damage.layers].filter(([id]) => id !== layerId));
      if (damage.data === '' && layers.size === 0) await this.#remove(imageId);
      else this.#set(imageId, { ...entry, damage: { ...damage, layers } });
    }
  }

  /** Its record and data were written anew. */
  async imageStored(imageId: string): Promise<void> {
    const entry = this.#entries.get(imageId);
    if (entry === undefined) return;
    if (entry.damage.layers.size === 0) await this.#remove(imageId);
    else this.#set(imageId, { ...entry, damage: { ...entry.damage, data: '' } });
  }

  async #remove(imageId: string): Promise<void> {
    const path = this.#entries.get(imageId)?.path;
    this.#entries.delete(imageId);
    this.#generation += 1;
    const image = this.#state.images.get(imageId);
    this.#state.log.info(`image ${image === undefined ? `"${imageId}"` : nameOf(image)} is whole again`);
    if (path === undefined) return;
    try {
      await unlink(path);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
  }

  /** Another program deleted the image, and with it the mark. */
  #dropDeleted(): void {
    for (const [imageId, { path }] of this.#entries) {
      if (path === undefined || isThere(path)) continue;
      this.#entries.delete(imageId);
      this.#generation += 1;
    }
  }

  #set(imageId: string, entry: Entry): void {
    this.#entries.set(imageId, entry);
    this.#generation += 1;
  }

  #path(imageId: string): string {
    return `${this.#state.imageFolder(imageId)}/${imageId}/${fileName}`;
  }
}

export function describeDamage({ data, layers }: ImageDamage): string {
  const parts = [...layers].map(([id, reason]) => `layer ${id}: ${reason}`);
  return [...(data === '' ? [] : [data]), ...parts].join('; ');
}

function nameOf(image: ImageRecord): string {
  return `"${image.id}" (${namesToPull(image).join(', ')})`;
}

function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Each write of a mark makes another file. */
function versionOf(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? undefined : `${stat.ino} ${stat.mtimeNs}`;
}

function formatDamage({ data, layers }: ImageDamage): string {
  return JSON.stringify({
    version,
    found: formatTimeNs(systemClock.nowNs()),
    data,
    layers: Object.fromEntries(layers),
  });
}

function parseDamage(text: string): ImageDamage {
  const value: unknown = JSON.parse(text);
  if (!isObject(value) || value['version'] !== version) throw new Error('its version is unknown');
  const { data, layers } = value;
  if (!isText(data) || !isObject(layers)) throw new Error('it has no reason');
  const reasons = new Map<string, string>();
  for (const [id, reason] of Object.entries(layers)) if (isText(reason)) reasons.set(id, reason);
  return { data, layers: reasons };
}
