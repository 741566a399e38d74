import { CrioError } from '../../base/errors.ts';

/** One element of DER (X.690): its identifier octet and what it contains. */
export interface DerElement {
  readonly tag: number;
  readonly content: Buffer;
}

export const derTags = {
  boolean: 0x01,
  integer: 0x02,
  octetString: 0x04,
  objectId: 0x06,
  utf8String: 0x0c,
  sequence: 0x30,
  /** `[0] EXPLICIT` and so on */
  explicit0: 0xa0,
  explicit1: 0xa1,
  explicit3: 0xa3,
} as const;

/** The elements that lie one after the other in these bytes. Throws `invalid` for what is not DER. */
export function readDer(bytes: Buffer): readonly DerElement[] {
  const elements: DerElement[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const { element, end } = readElement(bytes, offset);
    elements.push(element);
    offset = end;
  }
  return elements;
}

/** The only element of these bytes, which must have this tag. */
export function readOnlyDer(bytes: Buffer, tag: number): Buffer {
  const [element, ...others] = readDer(bytes);
  if (element === undefined || others.length > 0) throw invalid('not one element');
  return contentOf(element, tag);
}

/** The content of an element, which must be there and have this tag. */
export function contentOf(element: DerElement | undefined, tag: number): Buffer {
  if (element?.tag !== tag) throw invalid(`expected tag ${tag}, got ${element?.tag ?? 'the end'}`);
  return element.content;
}

/** `1.2.840.113549`, X.690 8.19. */
export function readObjectId(content: Buffer): string {
  if (content.length === 0 || ((content.at(-1) ?? 0) & 0x80) !== 0) throw invalid('object identifier is cut off');
  const arcs: number[] = [];
  let arc = 0;
  for (const byte of content) {
    arc = arc * 128 + (byte & 0x7f);
    if (!Number.isSafeInteger(arc)) throw invalid('object identifier is too large');
    if ((byte & 0x80) !== 0) continue;
    arcs.push(arc);
    arc = 0;
  }
  const [first = 0, ...others] = arcs;
  const root = Math.min(2, Math.floor(first / 40));
  return [root, first - root * 40, ...others].join('.');
}

/** A small integer that is not negative. */
export function readInteger(content: Buffer): number {
  if (content.length === 0 || content.length > 4 || ((content[0] ?? 0) & 0x80) !== 0)
    throw invalid('integer is out of range');
  return content.readUIntBE(0, content.length);
}

export function readBoolean(content: Buffer): boolean {
  const [value] = content;
  if (content.length !== 1 || (value !== 0 && value !== 0xff)) throw invalid('not a boolean');
  return value === 0xff;
}

/** Lengths are definite, in their shortest form, and tags have one octet: DER allows each value one form only. */
function readElement(bytes: Buffer, offset: number): { readonly element: DerElement; readonly end: number } {
  const tag = bytes[offset] ?? 0;
  if ((tag & 0x1f) === 0x1f) throw invalid('tag of several octets');
  const first = bytes[offset + 1];
  if (first === undefined) throw invalid('cut off');
  const size = first < 0x80 ? 0 : first & 0x7f;
  if (first >= 0x80 && (size === 0 || size > 4 || offset + 2 + size > bytes.length)) throw invalid('wrong length');
  const length = size === 0 ? first : bytes.readUIntBE(offset + 2, size);
  if (size > 0 && (length < 0x80 || length < 2 ** (8 * (size - 1))))
    throw invalid('length is not in its shortest form');
  const start = offset + 2 + size;
  const end = start + length;
  if (end > bytes.length) throw invalid('cut off');
  return { element: { tag, content: bytes.subarray(start, end) }, end };
}

function invalid(why: string): CrioError {
  return new CrioError('invalid', `parse DER: ${why}`);
}
