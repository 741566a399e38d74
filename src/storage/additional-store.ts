import type { Logger } from '../base/log.ts';
import { parseImage } from './index/image-record.ts';
import type { IndexedImage } from './index/image-record.ts';
import { parseLayer } from './index/layer-record.ts';
import type { IndexedLayer } from './index/layer-record.ts';
import { LockFile } from './index/lock-file.ts';
import { RecordIndex } from './index/record-index.ts';
import type { Named } from './index/record-index.ts';

/**
 * Another graph root whose images may be used but not changed. Its lock files are only looked at: whoever fills such a
 * store does it before it is shared, and a change is seen by its token.
 */
export class AdditionalStore {
  readonly root: string;
  readonly imagesFolder: string;
  readonly #images: Watched<IndexedImage>;
  readonly #layers: Watched<IndexedLayer>;

  constructor(root: string, driver: string, log: Logger) {
    this.root = root;
    this.imagesFolder = `${root}/${driver}-images`;
    const layersFolder = `${root}/${driver}-layers`;
    const watch = <R extends Named>(
      folder: string,
      name: string,
      parse: (raw: { [key: string]: unknown }) => R,
    ): Watched<R> => ({
      index: new RecordIndex({
        files: [{ path: `${folder}/${name}.json`, durable: true }],
        parse,
        log,
        isReadOnly: true,
      }),
      lock: new LockFile(`${folder}/${name}.lock`),
    });
    this.#images = watch(this.imagesFolder, 'images', (raw) => ({ ...parseImage(raw), isReadOnly: true }));
    this.#layers = watch(layersFolder, 'layers', parseLayer);
  }

  images(): Promise<RecordIndex<IndexedImage>> {
    return upToDate(this.#images);
  }

  layers(): Promise<RecordIndex<IndexedLayer>> {
    return upToDate(this.#layers);
  }

  close(): void {
    this.#images.lock.close();
    this.#layers.lock.close();
  }
}

interface Watched<R extends Named> {
  readonly index: RecordIndex<R>;
  readonly lock: LockFile;
}

async function upToDate<R extends Named>({ index, lock }: Watched<R>): Promise<RecordIndex<R>> {
  if (lock.isChanged() || index.filesChanged()) {
    const token = lock.readToken();
    await index.load();
    lock.remember(token);
  }
  return index;
}
