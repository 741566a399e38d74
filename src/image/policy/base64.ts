import { CrioError } from '../../base/errors.ts';

const pattern = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** Standard base64 with padding, nothing else: Node's own decoder skips what it does not know. RFC 4648, 4. */
export function decodeBase64(text: string, what: string): Buffer {
  const joined = text.replace(/[\r\n]/g, '');
  if (!pattern.test(joined)) throw new CrioError('invalid', `${what}: not base64`);
  return Buffer.from(joined, 'base64');
}
