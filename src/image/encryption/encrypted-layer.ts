import { createDecipheriv, createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
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

/** Wrapped keys of one layer; tools add one for each change of the recipients. */
const maxWrapped = 64;
/** Recipients that are tried for all layers of an image. */
const maxTries = 1000;

/**
 * Opens the wrapped keys of layers, as the image encryption of the other container tools writes them into annotations. Throws
 * when no private key fits one: asked before the store is, so that who cannot open an image does not get it from a neighbour.
 * Others get their turn between the tries, and there are not many of them (CVE-2026-34986).
 */
export async function openLayerKeys(
  layers: readonly Descriptor[],
  keys: readonly KeyObject[],
): Promise<ReadonlyMap<Digest, LayerKey>> {
  let tries = 0;
  const beforeTry = async (): Promise<void> => {
    tries += 1;
    if (tries > maxTries)
      throw new CrioError('resource-exhausted', `encrypted layers have more than ${maxTries} recipients`);
    await nextTurn();
  };
  const opened = new Map<Digest, LayerKey>();
  for (const layer of layers) opened.set(layer.digest, await openLayerKey(layer, keys, beforeTry));
  return opened;
}

async function openLayerKey(
  layer: Descriptor,
  keys: readonly KeyObject[],
  beforeTry: () => Promise<void>,
): Promise<LayerKey> {
  const what = `layer ${layer.digest}`;
  const options = readBase64(layer.annotations.get(`${annotationPrefix}pubopts`) ?? '', `${what}: pubopts`);
  const cipher = options.string('cipher') ?? '';
  if (cipher !== cipherName)
    throw new CrioError('unimplemented', `${what}: unsupported cipher ${JSON.stringify(cipher)}`);
  const payload = await unwrapKey(layer, keys, beforeTry);
  const secret = new JsonReader(parseStrictJson(payload, `${what}: key`), `${what}: key`);
  const key = Buffer.from(secret.string('symkey') ?? '', 'base64');
  const nonce = Buffer.from(secret.object('cipheroptions')?.string('nonce') ?? '', 'base64');
  const hmac = Buffer.from(options.string('hmac') ?? '', 'base64');
  if (key.length !== 32 || nonce.length !== 16 || hmac.length !== 32)
    throw new CrioError('invalid', `${what}: key, nonce or HMAC has a wrong length`);
  return { key, nonce, hmac };
}

/** The content of the first wrapped key that fits. Those that cannot be read do not hide one behind them. */
async function unwrapKey(
  layer: Descriptor,
  keys: readonly KeyObject[],
  beforeTry: () => Promise<void>,
): Promise<Buffer> {
  const what = `layer ${layer.digest}`;
  const wrapped = (layer.annotations.get(`${annotationPrefix}keys.jwe`) ?? '').split(',').filter((text) => text !== '');
  if (wrapped.length === 0) throw new CrioError('unimplemented', `${what}: its key is not wrapped with JWE`);
  if (wrapped.length > maxWrapped)
    throw new CrioError('resource-exhausted', `${what}: ${wrapped.length} wrapped keys, more than ${maxWrapped}`);
  const unread = new Set<string>();
  for (const text of wrapped) {
    try {
      const payload = await decryptJwe(Buffer.from(text, 'base64'), keys, beforeTry);
      if (payload !== undefined) return payload;
    } catch (error) {
      if (!(error instanceof CrioError) || error.kind === 'resource-exhausted') throw error;
      unread.add(error.message);
    }
  }
  const missing = `missing private key needed for decryption (${keys.length} tried)`;
  throw new CrioError('failed-precondition', [`${what} is encrypted: ${missing}`, ...unread].join('; '));
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
