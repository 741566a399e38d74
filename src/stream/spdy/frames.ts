import { CrioError } from '../../base/errors.ts';

/** SPDY/3.1 frames. Numbers are big-endian; a frame is an 8-byte head and its payload. */
export const headBytes = 8;
const version = 3;
const typeNumbers = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const;
const finFlag = 1;
/** Longer control frames than a header block of the largest size needs end the connection. */
const maxControlBytes = 16 * 1024;
const maxId = 0x7fffffff;

export const resetStatus = { protocolError: 1, refused: 3, cancel: 5 } as const;

export type Frame =
  | { readonly type: 'synStream'; readonly id: number; readonly isLast: boolean; readonly block: Buffer }
  | { readonly type: 'synReply' | 'headers'; readonly id: number; readonly isLast: boolean; readonly block: Buffer }
  | { readonly type: 'rstStream'; readonly id: number; readonly status: number }
  | { readonly type: 'ping'; readonly id: number }
  | { readonly type: 'goAway' }
  | { readonly type: 'ignored' }
  /** A part of a data frame as it arrived; `isLast` with its last part only. */
  | { readonly type: 'data'; readonly id: number; readonly isLast: boolean; readonly data: Buffer };

/**
 * Cuts a byte stream into frames, whatever pieces it comes in. Payload of data frames is passed on as it comes, so that
 * only heads and control frames, which are bounded, are ever kept.
 */
export class FrameParser {
  #kept: Buffer = Buffer.alloc(0);
  #data: { readonly id: number; readonly isLast: boolean; left: number } | undefined;

  /** The frames that this piece completes; data refers to its memory. Throws when it is no SPDY; then all is over. */
  *push(piece: Buffer): Generator<Frame> {
    let rest = this.#kept.length === 0 ? piece : Buffer.concat([this.#kept, piece]);
    this.#kept = Buffer.alloc(0);
    while (rest.length > 0) {
      if (this.#data !== undefined) {
        const part = rest.subarray(0, this.#data.left);
        rest = rest.subarray(part.length);
        yield this.#takeData(this.#data, part);
        continue;
      }
      const length = frameLength(rest);
      if (length === undefined || (isControl(rest) && rest.length < length)) {
        // A copy: the piece belongs to the socket.
        this.#kept = Buffer.from(rest);
        return;
      }
      if (isControl(rest)) {
        const frame = parseControl(rest.subarray(0, length));
        rest = rest.subarray(length);
        yield frame;
      } else {
        this.#data = { id: streamId(rest, 0), isLast: rest[4] === finFlag, left: length - headBytes };
        rest = rest.subarray(headBytes);
        if (this.#data.left === 0) yield this.#takeData(this.#data, Buffer.alloc(0));
      }
    }
  }

  #takeData(frame: { readonly id: number; readonly isLast: boolean; left: number }, data: Buffer): Frame {
    frame.left -= data.length;
    if (frame.left > 0) return { type: 'data', id: frame.id, isLast: false, data };
    this.#data = undefined;
    return { type: 'data', id: frame.id, isLast: frame.isLast, data };
  }
}

function isControl(bytes: Buffer): boolean {
  return ((bytes[0] ?? 0) & 0x80) !== 0;
}

/** Head and payload; undefined while the head is incomplete. */
function frameLength(bytes: Buffer): number | undefined {
  if (bytes.length < headBytes) return undefined;
  const length = bytes.readUIntBE(5, 3);
  if (isControl(bytes) && length > maxControlBytes) throw invalid(`control frame of ${length} bytes`);
  return headBytes + length;
}

function parseControl(bytes: Buffer): Frame {
  const type = bytes.readUInt16BE(2);
  const flags = bytes[4] ?? 0;
  const payload = bytes.subarray(headBytes);
  const isLast = (flags & finFlag) !== 0;
  switch (type) {
    case typeNumbers.synStream:
      requireLength(payload, 10);
      return { type: 'synStream', id: streamId(payload, 0), isLast, block: payload.subarray(10) };
    case typeNumbers.synReply:
    case typeNumbers.headers: {
      requireLength(payload, 4);
      const name = type === typeNumbers.headers ? 'headers' : 'synReply';
      return { type: name, id: streamId(payload, 0), isLast, block: payload.subarray(4) };
    }
    case typeNumbers.rstStream:
      requireLength(payload, 8);
      return { type: 'rstStream', id: streamId(payload, 0), status: nonZero(payload.readUInt32BE(4)) };
    case typeNumbers.ping:
      requireLength(payload, 4, 4);
      requireNoFlags(flags);
      return { type: 'ping', id: nonZero(payload.readUInt32BE(0)) };
    case typeNumbers.goAway:
      requireLength(payload, 8, 8);
      requireNoFlags(flags);
      return { type: 'goAway' };
    case typeNumbers.windowUpdate:
      requireLength(payload, 8, 8);
      requireNoFlags(flags);
      return { type: 'ignored' };
    case typeNumbers.settings:
      requireLength(payload, 4);
      return { type: 'ignored' };
    default:
      throw invalid(`control frame of unknown type ${type}`);
  }
}

function streamId(bytes: Buffer, at: number): number {
  return nonZero(bytes.readUInt32BE(at) & maxId);
}

function nonZero(value: number): number {
  if (value === 0) throw invalid('a number is 0 that must not be');
  return value;
}

function requireLength(payload: Buffer, atLeast: number, atMost = Infinity): void {
  if (payload.length < atLeast || payload.length > atMost) throw invalid(`control frame of ${payload.length} bytes`);
}

function requireNoFlags(flags: number): void {
  if (flags !== 0) throw invalid(`flags ${flags}`);
}

function invalid(reason: string): CrioError {
  return new CrioError('invalid', `SPDY frame: ${reason}`);
}

function controlFrame(type: number, flags: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUInt16BE(0x8000 | version, 0);
  head.writeUInt16BE(type, 2);
  head[4] = flags;
  head.writeUIntBE(payload.length, 5, 3);
  return Buffer.concat([head, payload]);
}

function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => bytes.writeUInt32BE(value, index * 4));
  return bytes;
}

/** For clients. */
export function synStreamFrame(id: number, block: Buffer, isLast = false): Buffer {
  const payload = Buffer.concat([numbers(id, 0), Buffer.alloc(2), block]);
  return controlFrame(typeNumbers.synStream, isLast ? finFlag : 0, payload);
}

export function synReplyFrame(id: number, block: Buffer): Buffer {
  return controlFrame(typeNumbers.synReply, 0, Buffer.concat([numbers(id), block]));
}

export function rstStreamFrame(id: number, status: number): Buffer {
  return controlFrame(typeNumbers.rstStream, 0, numbers(id, status));
}

export function pingFrame(id: number): Buffer {
  return controlFrame(typeNumbers.ping, 0, numbers(id));
}

export function goAwayFrame(lastId: number): Buffer {
  return controlFrame(typeNumbers.goAway, 0, numbers(lastId, 0));
}

/** The head alone, so that data need not be copied; at most 2^24 - 1 bytes follow. */
export function dataHead(id: number, length: number, isLast: boolean): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUInt32BE(id, 0);
  head[4] = isLast ? finFlag : 0;
  head.writeUIntBE(length, 5, 3);
  return head;
}
