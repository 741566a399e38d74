import { join } from 'node:path';
import type { Logger } from '../../base/log.ts';
import type { Image } from '../images.ts';
import { mergeSignatures } from '../policy/stored-signatures.ts';
import type { SignaturesByDigest } from '../policy/stored-signatures.ts';
import type { LocalEvidence } from '../policy/verify-use.ts';
import { ArtifactStore } from './artifact-store.ts';

/**
 * The artifacts of this node: its own store, and read-only ones beside it (`additional_artifact_stores`). Those come
 * first, are always pinned, and stand for their names and digests whatever the own store has.
 */
export class ArtifactCatalog {
  readonly own: ArtifactStore;
  readonly #additional: readonly ArtifactStore[];

  /** `roots` of the additional stores are folders with a folder `artifacts` in it. */
  constructor(graphRoot: string, roots: readonly string[], log: Logger) {
    this.own = new ArtifactStore(join(graphRoot, 'artifacts'), log, (digest) =>
      this.isAdditional(digest.slice(digest.indexOf(':') + 1)),
    );
    this.#additional = roots.map((root) => new ArtifactStore(join(root, 'artifacts'), log));
  }

  async list(isPinned: (names: readonly string[]) => boolean): Promise<readonly Image[]> {
    const own = (await this.own.list()).map((image) => ({
      ...image,
      pinned: isPinned([...image.repoTags, ...image.repoDigests]),
    }));
    if (this.#additional.length === 0) return own;
    const byDigest = new Map<string, Image>();
    for (const image of [...(await this.#listAdditional()), ...own])
      if (!byDigest.has(image.id)) byDigest.set(image.id, image);
    return [...byDigest.values()];
  }

  /** Those of the own store that do not count as present: they can be named to remove them. */
  async damaged(): Promise<readonly Image[]> {
    return (await this.own.contents()).flatMap(({ image, fault }) => (fault === undefined ? [] : [image]));
  }

  /** What an additional store has under this complete name. */
  async findAdditional(name: string): Promise<Image | undefined> {
    const images = await this.#listAdditional();
    return images.find((image) => image.repoTags.includes(name) || image.repoDigests.includes(name));
  }

  async isAdditional(id: string): Promise<boolean> {
    return (await this.#listAdditional()).some((image) => image.id === id);
  }

  /** What a policy decides about before an artifact is used; undefined when there is none with this id. */
  async evidenceOf(id: string): Promise<LocalEvidence | undefined> {
    const image = (await this.list(() => false)).find((candidate) => candidate.id === id);
    if (image?.digest === undefined) return undefined;
    const { digest } = image;
    let signatures: SignaturesByDigest = new Map();
    for (const store of [this.own, ...this.#additional])
      signatures = mergeSignatures(signatures, await store.signaturesOf(digest));
    return {
      digests: [digest],
      signatures: async () => [...signatures.values()].flat(),
      names: [...image.repoTags, ...image.repoDigests],
    };
  }

  async #listAdditional(): Promise<readonly Image[]> {
    const lists = await Promise.all(this.#additional.map((store) => store.list()));
    return lists.flat().map((image) => ({ ...image, pinned: true }));
  }
}
