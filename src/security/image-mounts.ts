import { mkdir, stat } from 'node:fs/promises';
import { CrioError, hasCode } from '../base/errors.ts';
import type { ArtifactBlob, Image, Images } from '../image/images.ts';
import type { Store } from '../storage/store.ts';
import type { ArtifactFile } from './artifact-volumes.ts';

export interface ImageMountsDeps {
  readonly images: Pick<Images, 'find'> & {
    /** An artifact wins over an image of the same name. */
    findArtifact(reference: string): Promise<Image | undefined>;
  };
  readonly layers: Pick<Store['layers'], 'mountReadOnly'>;
  /** Mount points are made here, one per image. */
  readonly directory: string;
}

/** What a mount of an image or artifact is made of. */
export type MountableImage =
  | { readonly id: string; readonly path: string }
  | {
      readonly id: string;
      readonly files: readonly ArtifactFile[];
      /** Digests of blobs that no annotation gives a usable name. */
      readonly unnamed: readonly string[];
    };

/** Mounts of images that containers share; they stay until the daemon ends or the image goes. */
export class ImageMounts {
  readonly #deps: ImageMountsDeps;
  readonly #mounted = new Map<string, Promise<{ path: string; unmount: () => Promise<void> }>>();

  constructor(deps: ImageMountsDeps) {
    this.#deps = deps;
  }

  /** Undefined when the image is not there or has no layers. Bound, to be handed on as a function. */
  readonly mount = async (reference: string): Promise<MountableImage | undefined> => {
    const artifact = await this.#deps.images.findArtifact(reference);
    if (artifact?.artifact !== undefined) return openArtifact(artifact.id, artifact.artifact.blobs);
    const image = await this.#deps.images.find(reference);
    if (image?.topLayer === undefined) return undefined;
    const { id, topLayer } = image;
    const mounted = this.#mounted.get(id) ?? this.#mountNow(id, topLayer);
    return { id, path: (await mounted).path };
  };

  /** To be called before an image is removed; not mounted is success. */
  async unmount(imageId: string): Promise<void> {
    const mounted = this.#mounted.get(imageId);
    if (mounted === undefined) return;
    this.#mounted.delete(imageId);
    await (await mounted).unmount();
  }

  /** A mount that failed is tried again by the next container. */
  #mountNow(id: string, topLayer: string): Promise<{ path: string; unmount: () => Promise<void> }> {
    const mounting = this.#mountLayer(id, topLayer);
    this.#mounted.set(id, mounting);
    mounting.catch(() => this.#mounted.delete(id));
    return mounting;
  }

  async #mountLayer(id: string, topLayer: string): Promise<{ path: string; unmount: () => Promise<void> }> {
    const path = `${this.#deps.directory}/${id}`;
    await mkdir(path, { recursive: true, mode: 0o700 });
    return { path, unmount: await this.#deps.layers.mountReadOnly(topLayer, path) };
  }
}

async function openArtifact(id: string, blobs: readonly ArtifactBlob[]): Promise<MountableImage> {
  const named = blobs.flatMap(({ title, ...blob }) => (title === undefined ? [] : [{ ...blob, title }]));
  await Promise.all(named.map(requireWhole));
  return {
    id,
    files: named.map(({ path, title }) => ({ path, title })),
    unnamed: blobs.filter(({ title }) => title === undefined).map(({ digest }) => digest),
  };
}

/** What the disk lost would be mounted as if it were there. */
async function requireWhole({ path, sizeBytes, digest }: ArtifactBlob): Promise<void> {
  try {
    const { size } = await stat(path);
    if (size === sizeBytes) return;
    throw new CrioError(
      'failed-precondition',
      `artifact blob ${digest} has ${size} of ${sizeBytes} bytes: pull it again`,
    );
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
    throw new CrioError('failed-precondition', `artifact blob ${digest} is missing: pull it again`);
  }
}
