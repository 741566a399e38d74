import { open } from 'node:fs/promises';
import { CrioError, atPath } from './errors.ts';

/** A file that must not be larger than this; what it says of itself elsewhere is not believed. */
export async function readBounded(path: string, maxBytes: number): Promise<Buffer> {
  await using file = await open(path);
  const { size } = await file.stat();
  if (size > maxBytes) throw new CrioError('resource-exhausted', `read "${path}": larger than ${maxBytes} bytes`);
  try {
    return await file.readFile();
  } catch (error) {
    throw atPath(error, path);
  }
}
