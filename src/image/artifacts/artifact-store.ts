import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CrioError, messageOf } from '../../base/errors.ts';
import { FreeSpaceGuard } from '../../base/free-space.ts';
import { Holders } from '../../base/holders.ts';
import type { Digest } from '../../base/ids.ts';
import type { Logger } from '../../base/log.ts';
import { readBounded } from '../../base/read-bounded.ts';
import { CrashNote } from '../../sys/crash-note.ts';
import { acquireFileLock } from '../../sys/lock.ts';
import { checkDigest } from '../digest.ts';
import type { Image } from '../images.ts';
import { parseManifest } from '../manifest.ts';
import type { ArtifactManifest } from '../manifest.ts';
import type { SignaturesByDigest } from '../policy/stored-signatures.ts';
import { names, sizeOf, temporaryFiles, writeDurably } from './artifact-files.ts';
import { toImage } from './artifact-image.ts';
import { emptyIndex, encodeIndex, namedEntry, readIndex, versionOf } from './artifact-index.ts';
import type { ArtifactIndex, IndexEntry } from './artifact-index.ts';
import { ArtifactSignatures } from './artifact-signatures.ts';

/** As much as a registry may send. */
const maxManifestBytes = 4 * 1024 * 1024;
/** After a failed pull: podman may hold the lock for as long as it pulls. The next start deletes what stays. */
const deleteWaitMs = 5000;

type StoredManifest = Pick<ArtifactManifest, 'artifactType' | 'config' | 'layers' | 'annotations'>;

export interface StoredArtifact {
  readonly digest: Digest;
  readonly image: Image;
  /** Its manifest and blobs; undefined when the manifest cannot be read. */
  readonly blobs: readonly Digest[] | undefined;
  /** Why it does not count as present. */
  readonly fault: string | undefined;
}

/** Blobs of a pull that runs. Its end without `giveUp` means that they have a name. */
export interface BlobHold extends Disposable {
  /** Deletes those that nothing else needs. */
  giveUp(): Promise<void>;
}

interface Loaded extends ArtifactIndex {
  readonly version: string;
  readonly artifacts: readonly StoredArtifact[];
}

const nothing: Loaded = { ...emptyIndex, version: '', artifacts: [] };

/**
 * OCI artifacts in `<root>/artifacts`, an OCI image layout that podman and CRI-O share; `index.lock` guards its index.
 */
export class ArtifactStore implements Disposable {
  readonly dir: string;
  readonly #log: Logger;
  readonly #signatures: ArtifactSignatures;
  readonly #isElsewhere: (digest: Digest) => Promise<boolean>;
  /** Blobs of pulls that run: no index names them yet, and a removal must leave them. */
  readonly #held = new Holders();
  readonly #writing = new Map<Digest, Promise<void>>();
  #loaded: Loaded = nothing;
  #pulled: CrashNote | undefined;

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

  /** All sound artifacts, never pinned; served from memory while the index does not change. */
  async list(): Promise<readonly Image[]> {
    return (await this.contents()).flatMap(({ image, fault }) => (fault === undefined ? [image] : []));
  }

  /** Also those whose manifest or blobs are not there or cut short. */
  async contents(): Promise<readonly StoredArtifact[]> {
    return (await this.#load()).artifacts;
  }

  /**
   * Deletes what pulls left that were cut short: their temporary files and blobs. To be called before the first pull; it
   * may wait long for another program. Errors are logged.
   */
  async cleanUp(signal: AbortSignal): Promise<void> {
    try {
      // At once, before a pull of this process makes some of its own.
      const temporary = temporaryFiles(this.dir);
      if ((await names(join(this.dir, 'blobs'))).length === 0) return;
      const pulled = this.#pulledNote().list();
      using _lock = await acquireFileLock(join(this.dir, 'index.lock'), 'write', { signal });
      for (const path of temporary) await rm(path, { force: true });
      await this.#deleteUnused(pulled);
      this.#forget(pulled);
    } catch (error) {
      if (!signal.aborted) this.#log.warn('Clean up artifacts', error);
    }
  }

  /**
   * Begins a pull: these blobs are kept from a removal that runs meanwhile, and deleted by the next start should this
   * process end before `put`.
   */
  async begin(digests: readonly Digest[]): Promise<BlobHold> {
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    const held = this.#held.hold(digests);
    await this.#pulledNote().note(digests);
    let isGivenUp = false;
    return {
      giveUp: () => {
        isGivenUp = true;
        held[Symbol.dispose]();
        return this.#giveUp(digests);
      },
      [Symbol.dispose]: () => {
        held[Symbol.dispose]();
        if (!isGivenUp) this.#forget(digests);
      },
    };
  }

  /** An error is logged: the next start deletes what is left. */
  async #giveUp(digests: readonly Digest[]): Promise<void> {
    // Nobody waits for them any more, so they end.
    const unused = digests.filter((digest) => !this.#held.has(digest));
    await Promise.allSettled(unused.flatMap((digest) => this.#writing.get(digest) ?? []));
    try {
      const signal = AbortSignal.timeout(deleteWaitMs);
      using _lock = await acquireFileLock(join(this.dir, 'index.lock'), 'write', { signal });
      await this.#deleteUnused(digests);
      this.#forget(digests);
    } catch (error) {
      this.#log.warn('Delete blobs of an artifact that was not pulled', error);
    }
  }

  #forget(digests: readonly Digest[]): void {
    this.#pulledNote().forget(digests.filter((digest) => !this.#held.has(digest)));
  }

  [Symbol.dispose](): void {
    this.#pulled?.[Symbol.dispose]();
  }

  /** Blobs that no artifact has, for a while. The folder exists. */
  #pulledNote(): CrashNote {
    this.#pulled ??= new CrashNote(join(this.dir, 'crio-pulled-blobs'), this.#log);
    return this.#pulled;
  }

  /** Looks at the manifests and blobs anew, also when the index is as it was. */
  forget(): void {
    this.#loaded = nothing;
  }

  /** Takes a blob away whose content is not its own: its artifacts do not count as present until they are pulled again. */
  async dropBlob(digest: Digest): Promise<void> {
    using _lock = await acquireFileLock(join(this.dir, 'index.lock'), 'write');
    // A pull that runs believes it is there.
    if (this.#held.has(digest)) return;
    await rm(this.blobPath(digest), { force: true });
    this.forget();
  }

  async hasBlob(digest: Digest, size: number): Promise<boolean> {
    return (await sizeOf(this.blobPath(digest))) === size;
  }

  /** Writes a blob durably; `write` fills the file and checks the content. Ends before the disk is full. */
  async addBlob(digest: Digest, write: (append: (chunk: Uint8Array) => Promise<void>) => Promise<void>): Promise<void> {
    const work = this.#writeBlob(this.blobPath(digest), write);
    this.#writing.set(digest, work);
    try {
      await work;
    } finally {
      if (this.#writing.get(digest) === work) this.#writing.delete(digest);
    }
  }

  async #writeBlob(
    path: string,
    write: (append: (chunk: Uint8Array) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const folder = join(path, '..');
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const space = new FreeSpaceGuard(folder, 'writing');
    await writeDurably(path, (append) =>
      write((chunk) => {
        space.wrote(chunk.length);
        return append(chunk);
      }),
    );
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
    const { digest, data, mediaType } = manifest;
    await this.addBlob(digest, (append) => append(data));
    await writeDurably(join(this.dir, 'oci-layout'), (append) => append(Buffer.from('{"imageLayoutVersion":"1.0.0"}')));
    await this.#change(
      (entries) => [
        ...entries.filter((entry) => entry.name !== name && !(entry.digest === digest && entry.name === '')),
        namedEntry(name, { digest, size: data.length, mediaType }),
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
    edit: (entries: readonly IndexEntry[]) => readonly IndexEntry[],
    prepare: () => Promise<void> = async () => {},
  ): Promise<void> {
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    using _lock = await acquireFileLock(join(this.dir, 'index.lock'), 'write');
    await prepare();
    const { entries, others, artifacts } = await this.#load();
    const left = edit(entries);
    const data = encodeIndex({ entries: left, others });
    await writeDurably(join(this.dir, 'index.json'), (append) => append(data));
    const isLeft = (digest: Digest) => left.some((entry) => entry.digest === digest);
    const removed = artifacts.filter(({ digest }) => !isLeft(digest));
    if (removed.length === 0) return;
    await this.#deleteUnused(removed.flatMap(({ digest, blobs }) => blobs ?? [digest]));
    await this.#signatures.deleteUnless(async (digest) => isLeft(digest) || (await this.#isElsewhere(digest)));
  }

  /**
   * Those of the blobs that no artifact and no pull has. Others without a name may be of a program that is adding them: it
   * need not hold the lock meanwhile, which is held here.
   */
  async #deleteUnused(digests: readonly Digest[]): Promise<void> {
    const { artifacts, others } = await this.#load();
    const used = new Set(this.#held.all());
    for (const { blobs } of artifacts) {
      // Nobody knows which blobs it needs.
      if (blobs === undefined) return;
      for (const digest of blobs) used.add(digest);
    }
    if (others.length > 0) return;
    for (const digest of digests) if (!used.has(digest)) await rm(this.blobPath(digest), { force: true });
  }

  async #load(): Promise<Loaded> {
    const path = join(this.dir, 'index.json');
    const version = await versionOf(path);
    if (version !== '' && version === this.#loaded.version) return this.#loaded;
    const index = version === '' ? emptyIndex : await readIndex(path);
    const artifacts = await Promise.all(
      [...Map.groupBy(index.entries, (entry) => entry.digest)].map(([digest, group]) => this.#read(digest, group)),
    );
    for (const { image, fault } of artifacts)
      if (fault !== undefined) this.#log.warn(`Artifact ${image.id} does not count as present: ${fault}`);
    this.#loaded = { ...index, version, artifacts };
    return this.#loaded;
  }

  async #read(digest: Digest, entries: readonly IndexEntry[]): Promise<StoredArtifact> {
    const asImage = (manifest: StoredManifest): Image =>
      toImage(
        digest,
        entries.map(({ name }) => name),
        manifest,
        (blob) => this.blobPath(blob),
      );
    try {
      const manifest = await this.#readManifest(digest);
      const blobs = [digest, manifest.config.digest, ...manifest.layers.map((layer) => layer.digest)];
      return { digest, image: asImage(manifest), blobs, fault: await this.#missing(manifest) };
    } catch (error) {
      return { digest, image: asImage(unreadable), blobs: undefined, fault: messageOf(error) };
    }
  }

  /** The config means nothing for an artifact: other programs may not have it. */
  async #missing({ layers }: StoredManifest): Promise<string | undefined> {
    for (const { digest, size } of layers) {
      const actual = await sizeOf(this.blobPath(digest));
      if (actual === undefined) return `blob ${digest} is missing`;
      if (actual !== size) return `blob ${digest} has ${actual} bytes, expected ${size}`;
    }
    return undefined;
  }

  async #readManifest(digest: Digest): Promise<StoredManifest> {
    const data = await readBounded(this.blobPath(digest), maxManifestBytes);
    checkDigest(data, digest, 'manifest');
    const manifest = parseManifest(data, '');
    if (manifest.kind === 'index' || manifest.kind === 'schema1') throw new CrioError('invalid', 'it is no artifact');
    return { artifactType: manifest.config.mediaType, ...manifest };
  }
}

const unreadable: StoredManifest = {
  artifactType: '',
  config: { mediaType: '', digest: '', size: 0, annotations: new Map() },
  layers: [],
  annotations: new Map(),
};
