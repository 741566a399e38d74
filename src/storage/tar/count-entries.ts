import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { hasCode } from '../../base/errors.ts';

/** Start of a line for an archive entry, as every writer of the format puts it. */
const entryLine = Buffer.from('{"type":1,');

/** Number of entries that a tar-split description names; 0 when there is none. */
export async function countEntries(path: string): Promise<number> {
  let count = 0;
  let rest = Buffer.alloc(0);
  try {
    await pipeline(createReadStream(path), createGunzip(), async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) {
        const text = Buffer.concat([rest, chunk]);
        for (let at = text.indexOf(entryLine); at >= 0; at = text.indexOf(entryLine, at + entryLine.length)) count += 1;
        // Shorter than the mark: what is counted here is not counted again.
        rest = Buffer.from(text.subarray(Math.max(0, text.length - entryLine.length + 1)));
      }
    });
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
  return count;
}
