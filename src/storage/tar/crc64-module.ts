/** Instructions and types of the WebAssembly core specification 1.0, section 5. */
const op = {
  block: 0x02,
  loop: 0x03,
  end: 0x0b,
  br: 0x0c,
  brIf: 0x0d,
  localGet: 0x20,
  localSet: 0x21,
  localTee: 0x22,
  i64Load: 0x29,
  i64Load8U: 0x31,
  i32Const: 0x41,
  i64Const: 0x42,
  i32GtU: 0x4b,
  i32GeU: 0x4f,
  i32Add: 0x6a,
  i32And: 0x71,
  i32Shl: 0x74,
  i64Xor: 0x85,
  i64ShrU: 0x88,
  i32WrapI64: 0xa7,
} as const;
const i32 = 0x7f;
const i64 = 0x7e;
const noResult = 0x40;

/** Locals of the function: its three parameters, and the sixteen bytes that are looked at. */
const crc = 0;
const at = 1;
const end = 2;
const low = 3;
const high = 4;

/**
 * A module with one function, `u(crc: i64, start: i32, end: i32): i64`, which brings a reflected CRC forward over the bytes
 * of the imported memory `m.m`. At the memory's start lie `slices` (16) tables of 256 64-bit entries: entry `b` of table
 * `k` is the CRC of byte `b` with `k` zero bytes behind it.
 */
export function crc64Module(slices: number): Uint8Array<ArrayBuffer> {
  const body = [...wideLoop(slices), ...byteLoop(), op.localGet, crc, op.end];
  const locals = [1, 2, i64];
  const code = [...locals, ...body];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 3, i64, i32, i32, 1, i64]),
    ...section(2, [1, ...name('m'), ...name('m'), 0x02, 0, 1]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...name('u'), 0x00, 0]),
    ...section(10, [1, ...unsigned(code.length), ...code]),
  ]);
}

/** Sixteen bytes at a time, while there are as many. */
function wideLoop(slices: number): number[] {
  const tooFew = [op.localGet, at, op.i32Const, 16, op.i32Add, op.localGet, end, op.i32GtU];
  const load = (offset: number): number[] => [op.localGet, at, op.i64Load, 0, offset];
  const lookups: number[] = [];
  for (let byte = 0; byte < slices; byte++) {
    const word = byte < 8 ? low : high;
    lookups.push(...lookup(word, (byte % 8) * 8, slices - 1 - byte));
    if (byte > 0) lookups.push(op.i64Xor);
  }
  return whileLoop(tooFew, [
    ...[...load(0), op.localGet, crc, op.i64Xor, op.localSet, low],
    ...[...load(8), op.localSet, high],
    ...[...lookups, op.localSet, crc],
    ...advance(16),
  ]);
}

function byteLoop(): number[] {
  const isOver = [op.localGet, at, op.localGet, end, op.i32GeU];
  return whileLoop(isOver, [
    ...[op.localGet, crc, op.localGet, at, op.i64Load8U, 0, 0, op.i64Xor, op.localSet, low],
    ...lookup(low, 0, 0),
    ...[op.localGet, crc, op.i64Const, 8, op.i64ShrU, op.i64Xor, op.localSet, crc],
    ...advance(1),
  ]);
}

/** The entry of `table` for the byte of `word` that begins at bit `shift`. */
function lookup(word: number, shift: number, table: number): number[] {
  const shifted = shift === 0 ? [] : [op.i64Const, ...signed(shift), op.i64ShrU];
  const index = [op.localGet, word, ...shifted, op.i32WrapI64, op.i32Const, ...signed(255), op.i32And];
  return [...index, op.i32Const, 3, op.i32Shl, op.i64Load, 0, ...unsigned(table * 256 * 8)];
}

function advance(bytes: number): number[] {
  return [op.localGet, at, op.i32Const, bytes, op.i32Add, op.localSet, at];
}

function whileLoop(leave: readonly number[], body: readonly number[]): number[] {
  return [op.block, noResult, op.loop, noResult, ...leave, op.brIf, 1, ...body, op.br, 0, op.end, op.end];
}

function section(id: number, content: readonly number[]): number[] {
  return [id, ...unsigned(content.length), ...content];
}

function name(text: string): number[] {
  return [text.length, ...Buffer.from(text)];
}

/** LEB128 */
function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

/** LEB128 of a positive number whose sign bit must be clear. */
function signed(value: number): number[] {
  return value < 0x40 ? [value] : [(value & 0x7f) | 0x80, ...signed(value >>> 7)];
}
