import { mkdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CrioError, hasCode } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import type { Logger } from '../../base/log.ts';
import { acquireFileLock } from '../../sys/lock.ts';
import type { Image } from '../images.ts';
import { JsonReader, parseLooseJson, toPlain } from '../json.ts';
import type { Json } from '../json.ts';
import { mediaTypes } from '../media-types.ts';
import { parseManifest } from '../manifest.ts';
import type { ArtifactManifest } from '../manifest.ts';
import type { SignaturesByDigest } from '../policy/stored-signatures.ts';
import { names, writeDurably } from './artifact-files.ts';
import { toImage } from './artifact-image.ts';
import { ArtifactSignatures } from './artifact-signatures.ts';

/** The annotation that holds a manifest's name in an index, OCI image layout. */
const nameKey = 'org.opencontainers.image.ref.name';
const maxIndexSize = 16 * 1024 * 1024;

interface Entry {
  readonly digest: Digest;
  /** Complete reference; empty when it has none. */
  readonly name: string;
  /** The descriptor as it stands in the index. */
  readonly json: Json;
}

type StoredManifest = Pick<ArtifactManifest, 'artifactType' | 'config' | 'layers' | 'annotations'>;

interface Loaded {
  readonly version: string;
  readonly entries: readonly Entry[];
  readonly images: readonly Image[];
}

/** OCI artifacts in `<root>/artifacts`, an OCI image layout that podman and CRI-O share; `index.lock` guards it. */
export class ArtifactStore {
  readonly dir: string;
  readonly #log: Logger;
  readonly #signatures: ArtifactSignatures;
  readonly #isElsewhere: (digest: Digest) => Promise<boolean>;
  /** Blobs of pulls that run: no index names them yet, and a removal must leave them. Each with its number of holders. */
  readonly #held = new Map<Digest, number>();
  #loaded: Loaded = { version: '', entries: [], images: [] };

  /** `isElsewhere` tells of artifacts in other stores: this one may keep signatures of them. */
  constructor(dir: string, log: Logger, isElsewhere: (digest: Digest) => Promise<boolean> = async () => false) {
    this.dir = dir;
    this.#log = log;
    this.#signatures = new ArtifactSignatures(join(dir, 'crio-signatures'), log);
    this.#isElsewhere = isElsewhere;
  }

  blobPath(digest: Digest): string {
    const [algorithm = '', hex = ''] = digest.split(':');
    return join(this.dir, 'blobs', algorithm, hex);
  }

  /** All artifacts, never pinned; served from memory while the index does not change. */
  async list(): Promise<readonly Image[]> {
    return (await this.#load()).images;
  }

  /** Keeps blobs from a removal that runs meanwhile. */
  hold(digests: readonly Digest[]): Disposable {
    for (const digest of digests) this.#held.set(digest, (this.#held.get(digest) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        for (const digest of digests) {
          const left = (this.#held.get(digest) ?? 1) - 1;
          if (left > 0) this.#held.set(digest, left);
          else this.#held.delete(digest);
        }
      },
    };
  }

  async hasBlob(digest: Digest, size: number): Promise<boolean> {
    try {
      return (await stat(this.blobPath(digest))).size === size;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false;
      throw error;
    }
  }

  /** Writes a blob durably; `write` fills the file and checks the content. */
  async addBlob(digest: Digest, write: (append: (chunk: Uint8Array) => Promise<void>) => Promise<void>): Promise<void> {
    const path = this.blobPath(digest);
    await mkdir(join(path, '..'), { recursive: true, mode: 0o700 });
    await writeDurably(path, write);
  }

  /** What pulls found for a manifest and for the lists that named it; none of what another program brought. */
  async signaturesOf(digest: Digest): Promise<SignaturesByDigest> {
    return this.#signatures.read(digest);
  }

  /** Keeps signatures beside those that are there. */
  async addSignatures(digest: Digest, signatures: SignaturesByDigest): Promise<void> {
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    using _lock = await acquireFileLock(join(this.dir, 'index.lock'), 'write');
    await this.#signatures.add(digest, signatures);
  }

  /** Names a manifest whose blobs are all there; another manifest of that name loses it. */
  async put(
    name: string,
    manifest: { readonly digest: Digest; readonly data: Uint8Array; readonly mediaType: string },
    signatures: SignaturesByDigest,
  ): Promise<void> {
    await this.addBlob(manifest.digest, (append) => append(manifest.data));
    await writeDurably(join(this.dir, 'oci-layout'), (append) => append(Buffer.from('{"imageLayoutVersion":"1.0.0"}')));
    const { digest, data, mediaType } = manifest;
    const json: Json = new Map<string, Json>([
      ['mediaType', mediaType],
      ['digest', digest],
      ['size', data.length],
      ['annotations', new Map([[nameKey, name]])],
    ]);
    await this.#change(
      (entries) => [
        ...entries.filter((entry) => entry.name !== name && !(entry.digest === digest && entry.name === '')),
        { digest, name, json },
      ],
      // Before the index, which makes the artifact usable.
      () => this.#signatures.add(digest, signatures),
    );
  }

  /** Takes one name away, or with `undefined` all of the manifest, and deletes what nothing needs any more. */
  async remove(digest: Digest, name: string | undefined): Promise<void> {
    await this.#change((entries) =>
      entries.filter((entry) => entry.digest !== digest || (name !== undefined && entry.name !== name)),
    );
  }

  async #change(
    edit: (entries: readonly Entry[]) => readonly Entry[],
    prepare: () => Promise<void> = async () => {},
  ): Promise<void> {
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    using _lock = await acquireFileLock(join(this.dir, 'index.lock'), 'write');
    await prepare();
    const { entries } = await this.#load();
    const left = edit(entries);
    const index = { schemaVersion: 2, manifests: left.map((entry) => toPlain(entry.json)) };
    await writeDurably(join(this.dir, 'index.json'), (append) => append(Buffer.from(JSON.stringify(index))));
    const removed = entries.filter((entry) => !left.some(({ digest }) => digest === entry.digest));
    if (removed.length === 0) return;
    await this.#deleteUnused(left);
    const known = new Set(left.map((entry) => entry.digest));
    await this.#signatures.deleteUnless(async (digest) => known.has(digest) || (await this.#isElsewhere(digest)));
  }

  async #deleteUnused(entries: readonly Entry[]): Promise<void> {
    const used = new Set<string>(this.#held.keys());
    for (const entry of entries) {
      const manifest = await this.#tryReadManifest(entry.digest);
      // Nobody knows which blobs it needs.
      if (manifest === undefined) return;
      for (const digest of [entry.digest, manifest.config.digest, ...manifest.layers.map((layer) => layer.digest)])
        used.add(digest);
    }
    for (const algorithm of await names(join(this.dir, 'blobs'))) {
      for (const hex of await names(join(this.dir, 'blobs', algorithm))) {
        // Temporary files belong to a pull that runs.
        if (/^[a-f0-9]+$/.test(hex) && !used.has(`${algorithm}:${hex}`))
          await rm(join(this.dir, 'blobs', algorithm, hex), { force: true });
      }
    }
  }

  async #load(): Promise<Loaded> {
    const path = join(this.dir, 'index.json');
    const version = await versionOf(path);
    if (version === this.#loaded.version) return this.#loaded;
    const entries = version === '' ? [] : readIndex(await readFile(path));
    const images = await Promise.all(
      [...Map.groupBy(entries, (entry) => entry.digest)].map(([digest, group]) => this.#read(digest, group)),
    );
    this.#loaded = { version, entries, images: images.filter((image) => image !== undefined) };
    return this.#loaded;
  }

  async #read(digest: Digest, entries: readonly Entry[]): Promise<Image | undefined> {
    const manifest = await this.#tryReadManifest(digest);
    if (manifest === undefined) return undefined;
    return toImage(
      digest,
      entries.map(({ name }) => name),
      manifest,
      (blob) => this.blobPath(blob),
    );
  }

  async #tryReadManifest(digest: Digest): Promise<StoredManifest | undefined> {
    try {
      return await this.#readManifest(digest);
    } catch (error) {
      this.#log.warn(`Artifact ${digest} cannot be read`, error);
      return undefined;
    }
  }

  async #readManifest(digest: Digest): Promise<StoredManifest> {
    const manifest = parseManifest(await readFile(this.blobPath(digest)), '');
    if (manifest.kind === 'index' || manifest.kind === 'schema1') throw new CrioError('invalid', 'it is no artifact');
    return { artifactType: manifest.config.mediaType, ...manifest };
  }
}

function readIndex(data: Buffer): readonly Entry[] {
  if (data.length > maxIndexSize)
    throw new CrioError('resource-exhausted', `read artifact index: more than ${maxIndexSize} bytes`);
  const reader = new JsonReader(parseLooseJson(data, 'artifact index'), 'artifact index');
  return reader.array('manifests').flatMap((json, position) => {
    const entry = new JsonReader(json, `artifact index.manifests[${position}]`);
    const digest = entry.string('digest') ?? '';
    // A digest becomes a path: one that is no digest hides the entry.
    if (!/^sha(?:256|384|512):[a-f0-9]{64,128}$/.test(digest) || entry.string('mediaType') === mediaTypes.ociIndex)
      return [];
    return [{ digest, name: entry.stringMap('annotations').get(nameKey) ?? '', json }];
  });
}

/** Changes with every rename over the file; empty when there is none. */
async function versionOf(path: string): Promise<string> {
  try {
    const { ino, mtimeNs, size } = await stat(path, { bigint: true });
    return `${ino} ${mtimeNs} ${size}`;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return '';
    throw error;
  }
}
