import { mkdir } from 'node:fs/promises';
import type { Images } from '../image/images.ts';
import type { Store } from '../storage/store.ts';

export interface ImageMountsDeps {
  readonly images: Pick<Images, 'find'>;
  readonly layers: Pick<Store['layers'], 'mountReadOnly'>;
  /** Mount points are made here, one per image. */
  readonly directory: string;
}

/** Mounts of images that containers share; they stay until the daemon ends or the image goes. */
export class ImageMounts {
  readonly #deps: ImageMountsDeps;
  readonly #mounted = new Map<string, Promise<{ path: string; unmount: () => Promise<void> }>>();

  constructor(deps: ImageMountsDeps) {
    this.#deps = deps;
  }

  /** Undefined when the image is not there or has no layers. Bound, to be handed on as a function. */
  readonly mount = async (reference: string): Promise<{ id: string; path: string } | undefined> => {
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
