import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';

/** One line of a tar-split description: raw bytes of the archive, or a file whose content comes next. */
export type SplitItem =
  | { readonly kind: 'raw'; readonly bytes: Buffer }
  | { readonly kind: 'file'; readonly size: number; readonly checksum: Buffer | undefined };

/** The description itself is damaged: nothing can be said about the layer's content. */
export class DescriptionError extends Error {}

/** Longest line: a segment of one MiB in base64, with room. */
const maxLine = 4 * 1024 * 1024;

/** Reads a gzipped tar-split description from first to last line. Throws DescriptionError for what is none. */
export async function readTarSplit(path: string, handle: (item: SplitItem) => Promise<void>): Promise<void> {
  let rest = '';
  await pipeline(createReadStream(path), createGunzip(), async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) {
      const lines = (rest + chunk.toString('latin1')).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > maxLine) throw new DescriptionError('a line is too long');
      for (const line of lines) if (line !== '') await handle(parseItem(line));
    }
    if (rest !== '') await handle(parseItem(rest));
  });
}

function parseItem(line: string): SplitItem {
  const { type, size = 0, payload } = parseLine(line);
  if (type === 2 && typeof payload === 'string') return { kind: 'raw', bytes: Buffer.from(payload, 'base64') };
  if (type !== 1 || typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw new DescriptionError('a line is neither a segment nor a file');
  }
  const checksum = typeof payload === 'string' ? Buffer.from(payload, 'base64') : undefined;
  return { kind: 'file', size, checksum };
}

function parseLine(line: string): { type?: unknown; size?: unknown; payload?: unknown } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new DescriptionError('a line is no JSON');
  }
  if (typeof value !== 'object' || value === null) throw new DescriptionError('a line is no object');
  return value;
}
