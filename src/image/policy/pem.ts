import { CrioError } from '../../base/errors.ts';
import { decodeBase64 } from './base64.ts';

/** One block of PEM, RFC 7468. */
export interface PemBlock {
  readonly label: string;
  readonly der: Buffer;
}

/** White space is in the body's own class only: two ways to read it would take quadratic time on what has no end. */
const block = /-----BEGIN ([A-Z0-9 ]{1,64})-----([A-Za-z0-9+/=\s]*?)-----END \1-----/g;

/** All blocks of a text; text around them is allowed, as openssl writes it. Blocks with headers are not read. */
export function readPem(text: string, what: string): readonly PemBlock[] {
  const blocks: PemBlock[] = [];
  for (const [, label = '', body = ''] of text.matchAll(block))
    blocks.push({ label, der: decodeBase64(body.replace(/\s/g, ''), what) });
  return blocks;
}

/** The only block of a text. Throws `invalid` for none, several, and anything but white space around it. */
export function readOnlyPem(text: string, what: string): PemBlock {
  const [first, ...others] = readPem(text, what);
  if (first === undefined || others.length > 0 || text.replace(block, '').trim() !== '')
    throw new CrioError('invalid', `${what}: not one block of PEM`);
  return first;
}
