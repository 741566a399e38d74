/** Writes tar archives for tests, also such as no program would write. */
export interface EntrySpec {
  readonly name: string | Buffer;
  /** Type byte; `0` by default */
  readonly type?: string;
  readonly data?: string | Buffer;
  readonly linkName?: string | Buffer;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly device?: readonly [major: number, minor: number];
  /** PAX records written before the entry */
  readonly pax?: Readonly<Record<string, string | Buffer>>;
  /** Size field, when it should not be the data's */
  readonly size?: number;
}

const blockSize = 512;

export function buildTar(entries: readonly EntrySpec[], options: { readonly end?: boolean } = {}): Buffer {
  const end = options.end === false ? [] : [Buffer.alloc(2 * blockSize)];
  return Buffer.concat([...entries.map(entryBytes), ...end]);
}

export function entryBytes(entry: EntrySpec): Buffer {
  const data = Buffer.from(entry.data ?? '');
  const before =
    entry.pax === undefined ? [] : [entryBytes({ name: 'PaxHeader', type: 'x', data: paxData(entry.pax) })];
  return Buffer.concat([...before, headerBlock(entry, data.length), padded(data)]);
}

export function paxData(records: Readonly<Record<string, string | Buffer>>): Buffer {
  return Buffer.concat(Object.entries(records).map(([key, value]) => paxRecord(key, Buffer.from(value))));
}

function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function headerBlock(entry: EntrySpec, dataLength: number): Buffer {
  const block = Buffer.alloc(blockSize);
  Buffer.from(entry.name).copy(block, 0, 0, 100);
  octal(block, 100, 8, entry.mode ?? 0o644);
  octal(block, 108, 8, entry.uid ?? 0);
  octal(block, 116, 8, entry.gid ?? 0);
  octal(block, 124, 12, entry.size ?? dataLength);
  octal(block, 136, 12, entry.mtime ?? 1_700_000_000);
  block.write(entry.type ?? '0', 156, 'latin1');
  Buffer.from(entry.linkName ?? '').copy(block, 157, 0, 100);
  block.write('ustar\x0000', 257, 'latin1');
  octal(block, 329, 8, entry.device?.[0] ?? 0);
  octal(block, 337, 8, entry.device?.[1] ?? 0);
  return withChecksum(block);
}

export function withChecksum(block: Buffer): Buffer {
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** Base-256 when it does not fit or is negative. */
function octal(block: Buffer, offset: number, length: number, value: number): void {
  const digits = value.toString(8);
  if (value >= 0 && digits.length < length) {
    block.write(digits.padStart(length - 1, '0'), offset, 'latin1');
    return;
  }
  let rest = BigInt.asUintN(length * 8, BigInt(value));
  for (let at = offset + length - 1; at >= offset; at--) {
    block[at] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  block[offset] = (block[offset] ?? 0) | 0x80;
}

function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc((blockSize - (data.length % blockSize)) % blockSize)]);
}
