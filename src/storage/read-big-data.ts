import { hasCode } from '../base/errors.ts';
import { readBounded } from '../base/read-bounded.ts';
import { bigDataFile } from './index/big-data-name.ts';

/** Manifests and configs are megabytes at most; a larger file is not read into memory. */
const maxBigData = 64 * 1024 * 1024;

/** Undefined when there is no such file in the folder of an image. */
export async function readBigData(folder: string, key: string): Promise<Buffer | undefined> {
  try {
    return await readBounded(`${folder}/${bigDataFile(key)}`, maxBigData);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}
