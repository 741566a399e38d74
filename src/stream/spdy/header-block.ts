import { constants, inflateRawSync } from 'node:zlib';
import { CrioError } from '../../base/errors.ts';
import { dictionary, dictionaryId } from './dictionary.ts';

/** How far back deflate looks. */
const windowBytes = 32 * 1024;
/** CMF, FLG and DICTID before the first block of a direction. */
const zlibHeadBytes = 6;
const deflateMethod = 8;
const dictionaryFlag = 0x20;

/** Names are lower case; of a name that comes twice the first value counts. */
export type Headers = ReadonlyMap<string, string>;

/** What a client may make us unpack; the streams of Kubernetes need less than 200 bytes. */
export const maxBlockBytes = 8 * 1024;
const maxHeaders = 100;

/**
 * Decodes the header blocks of one direction, which are one zlib stream: every block must pass through here in order. Each
 * ends on a byte boundary (a sync flush), so it is inflated as raw deflate with the last 32 KiB of all before as dictionary:
 * synchronously, in 10 to 40 µs, and with a bound on its size.
 */
export class HeaderDecoder {
  #window = dictionary;
  #isFirst = true;

  /** Throws on anything that is not a header block, and on more than 8 KiB or 100 headers; then the connection is over. */
  decode(compressed: Buffer): Headers {
    const deflated = this.#isFirst ? withoutZlibHead(compressed) : compressed;
    this.#isFirst = false;
    const block = inflate(deflated, this.#window);
    const window = Buffer.concat([this.#window, block]);
    this.#window = window.length > windowBytes ? Buffer.from(window.subarray(-windowBytes)) : window;
    return parseHeaders(block);
  }
}

function withoutZlibHead(block: Buffer): Buffer {
  if (block.length < zlibHeadBytes) throw invalid('shorter than its head');
  const method = (block[0] ?? 0) & 0x0f;
  const isChecked = block.readUInt16BE(0) % 31 === 0 && ((block[1] ?? 0) & dictionaryFlag) !== 0;
  if (method !== deflateMethod || !isChecked || block.readUInt32BE(2) !== dictionaryId) throw invalid('unknown head');
  return block.subarray(zlibHeadBytes);
}

function inflate(block: Buffer, window: Buffer): Buffer {
  try {
    return inflateRawSync(block, {
      dictionary: window,
      finishFlush: constants.Z_SYNC_FLUSH,
      maxOutputLength: maxBlockBytes,
    });
  } catch (error) {
    throw new CrioError('invalid', 'SPDY header block: cannot be decompressed', { cause: error });
  }
}

/** u32 count, then per header u32 length, name, u32 length, value. */
export function parseHeaders(block: Buffer): Headers {
  const headers = new Map<string, string>();
  let at = 0;
  const count = number();
  if (count > maxHeaders) throw invalid(`${count} headers`);
  for (let index = 0; index < count; index++) {
    const name = text();
    const value = text();
    if (name === '' || name !== name.toLowerCase()) throw invalid(`header name ${JSON.stringify(name)}`);
    if (!headers.has(name)) headers.set(name, value);
  }
  if (at !== block.length) throw invalid(`${block.length - at} bytes too many`);
  return headers;

  function number(): number {
    if (at + 4 > block.length) throw invalid('ends early');
    at += 4;
    return block.readUInt32BE(at - 4);
  }

  function text(): string {
    const length = number();
    if (at + length > block.length) throw invalid('ends early');
    at += length;
    return block.toString('latin1', at - length, at);
  }
}

function invalid(reason: string): CrioError {
  return new CrioError('invalid', `SPDY header block: ${reason}`);
}

/** No headers, which is all that a server sends: a stored block and the mark of a flush, without any compressor. */
const emptyBlock = Buffer.from('000400fbff00000000000000ffff', 'hex');
/** The first block of a direction carries the head of the zlib stream: method, check, dictionary. */
export const zlibHead: Buffer = Buffer.from('78f9e3c6a7c2', 'hex');
const firstEmptyBlock = Buffer.concat([zlibHead, emptyBlock]);

/** The empty header blocks of one direction, in order. */
export class EmptyHeaders {
  #isFirst = true;

  next(): Buffer {
    const block = this.#isFirst ? firstEmptyBlock : emptyBlock;
    this.#isFirst = false;
    return block;
  }
}
