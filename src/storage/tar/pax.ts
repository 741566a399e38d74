import { TarError } from './tar-header.ts';

/** Records of a PAX header; values are bytes. */
export type PaxRecords = ReadonlyMap<string, Buffer>;

const maxRecords = 65536;

/** Reads `<length> <key>=<value>\n` records, POSIX pax(1). A later record replaces an earlier one of its key. */
export function parsePax(data: Buffer): PaxRecords {
  const records = new Map<string, Buffer>();
  let at = 0;
  while (at < data.length) {
    const space = data.indexOf(0x20, at);
    const digits = space < 0 || space - at > 10 ? '' : data.toString('latin1', at, space);
    const length = /^\d+$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    if (length < 5 || end > data.length || data[end - 1] !== 0x0a) throw new TarError('PAX record is malformed');
    const equals = data.indexOf(0x3d, space + 1);
    if (equals < 0 || equals >= end || equals === space + 1) throw new TarError('PAX record has no key');
    const key = data.toString('utf8', space + 1, equals);
    const value = Buffer.from(data.subarray(equals + 1, end - 1));
    checkRecord(key, value);
    records.set(key, value);
    if (records.size > maxRecords) throw new TarError('PAX header has too many records');
    at = end;
  }
  return records;
}

const textKeys: ReadonlySet<string> = new Set(['path', 'linkpath', 'uname', 'gname']);

/** A NUL would cut a name short for the kernel, but not for whoever checked it. */
function checkRecord(key: string, value: Buffer): void {
  if (key.includes('\0') || (textKeys.has(key) && value.includes(0)))
    throw new TarError(`PAX record "${key}" holds a NUL`);
}

/** `<seconds>[.<fraction>]`, perhaps negative, as nanoseconds; digits beyond nine are dropped. */
export function parsePaxTime(value: Buffer): bigint {
  const match = /^(-?)(\d{1,12})(?:\.(\d*))?$/.exec(value.toString('latin1'));
  if (match === null) throw new TarError(`PAX time "${value.toString('latin1')}" is malformed`);
  const fraction = BigInt((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  const ns = BigInt(match[2] ?? '0') * 1_000_000_000n + fraction;
  return match[1] === '-' ? -ns : ns;
}

export function parsePaxNumber(key: string, value: Buffer): number {
  const text = value.toString('latin1');
  const result = /^-?\d{1,16}$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(result)) throw new TarError(`PAX record "${key}" is no number`);
  return result;
}
