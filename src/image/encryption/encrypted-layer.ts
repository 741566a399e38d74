import { createDecipheriv, createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { CrioError } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import { JsonReader, parseStrictJson } from '../json.ts';
import type { Descriptor } from '../manifest.ts';
import { decryptJwe } from './jwe.ts';

const suffix = '+encrypted';
const annotationPrefix = 'org.opencontainers.image.enc.';
const cipherName = 'AES_256_CTR_HMAC_SHA256';

/** What opens one layer. */
export interface LayerKey {
  readonly key: Buffer;
  readonly nonce: Buffer;
  /** Of the encrypted bytes. */
  readonly hmac: Buffer;
}

export function isEncrypted({ mediaType }: Descriptor): boolean {
  return mediaType.endsWith(suffix);
}

/** The media type of what is inside. */
export function plainMediaType({ mediaType }: Descriptor): string {
  return mediaType.endsWith(suffix) ? mediaType.slice(0, -suffix.length) : mediaType;
}

/**
 * Opens the wrapped key of a layer, as the image encryption of the other container tools writes it into annotations. Throws
 * when no private key fits: asked before the store is, so that who cannot open an image does not get it from a neighbour.
 */
export function openLayerKey(layer: Descriptor, keys: readonly KeyObject[]): LayerKey {
  const what = `layer ${layer.digest}`;
  const options = readBase64(layer.annotations.get(`${annotationPrefix}pubopts`) ?? '', `${what}: pubopts`);
  const cipher = options.string('cipher') ?? '';
  if (cipher !== cipherName)
    throw new CrioError('unimplemented', `${what}: unsupported cipher ${JSON.stringify(cipher)}`);
  const wrapped = (layer.annotations.get(`${annotationPrefix}keys.jwe`) ?? '').split(',').filter((text) => text !== '');
  if (wrapped.length === 0) throw new CrioError('unimplemented', `${what}: its key is not wrapped with JWE`);
  const payload = wrapped
    .map((text) => decryptJwe(Buffer.from(text, 'base64'), keys))
    .find((opened) => opened !== undefined);
  if (payload === undefined) {
    throw new CrioError(
      'failed-precondition',
      `${what} is encrypted: missing private key needed for decryption (${keys.length} tried)`,
    );
  }
  const secret = new JsonReader(parseStrictJson(payload, `${what}: key`), `${what}: key`);
  const key = Buffer.from(secret.string('symkey') ?? '', 'base64');
  const nonce = Buffer.from(secret.object('cipheroptions')?.string('nonce') ?? '', 'base64');
  const hmac = Buffer.from(options.string('hmac') ?? '', 'base64');
  if (key.length !== 32 || nonce.length !== 16 || hmac.length !== 32)
    throw new CrioError('invalid', `${what}: key, nonce or HMAC has a wrong length`);
  return { key, nonce, hmac };
}

/** The plain layer. The last piece is given only when digest and HMAC of all that was read are right. */
export async function* decryptLayer(
  blob: AsyncIterable<Uint8Array>,
  { key, nonce, hmac }: LayerKey,
  digest: Digest,
): AsyncGenerator<Uint8Array> {
  const decipher = createDecipheriv('aes-256-ctr', key, nonce);
  const mac = createHmac('sha256', key);
  const [algorithm = '', hex] = digest.split(':');
  const hash = createHash(algorithm);
  let held: Uint8Array | undefined;
  for await (const chunk of blob) {
    mac.update(chunk);
    hash.update(chunk);
    if (held !== undefined) yield held;
    held = decipher.update(chunk);
  }
  if (hash.digest('hex') !== hex) throw new CrioError('invalid', `encrypted layer does not match its digest ${digest}`);
  if (!timingSafeEqual(mac.digest(), hmac)) throw new CrioError('invalid', `layer ${digest}: its HMAC does not match`);
  if (held !== undefined) yield held;
}

function readBase64(text: string, what: string): JsonReader {
  return new JsonReader(parseStrictJson(Buffer.from(text, 'base64'), what), what);
}
