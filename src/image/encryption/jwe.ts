import { constants, createDecipheriv, createHash, createPublicKey, diffieHellman, privateDecrypt } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { CrioError, messageOf } from '../../base/errors.ts';
import { JsonReader, parseStrictJson } from '../json.ts';

/**
 * Decrypts a JWE in JSON serialization (RFC 7516) with the first key that fits. Key management RSA-OAEP, RSA-OAEP-256 and
 * ECDH-ES with AES key wrap, content AES-GCM: what image encryption uses. Undefined when no key fits. `beforeTry` is
 * waited for before each recipient, as one costs some milliseconds; it may throw.
 */
export async function decryptJwe(
  data: Buffer,
  keys: readonly KeyObject[],
  beforeTry: () => Promise<void>,
): Promise<Buffer | undefined> {
  const reader = new JsonReader(parseStrictJson(data, 'JWE'), 'JWE');
  const protectedText = reader.string('protected') ?? '';
  const shared = [readHeader(base64url(protectedText)), reader.object('unprotected')];
  const recipients = reader.has('recipients')
    ? reader.array('recipients').map((item, index) => new JsonReader(item, `JWE.recipients[${index}]`))
    : [reader];
  if (recipients.length > maxRecipients) throw new CrioError('resource-exhausted', 'JWE: too many recipients');
  const aad = reader.string('aad');
  const message: GcmMessage = {
    iv: base64url(reader.string('iv') ?? ''),
    ciphertext: base64url(reader.string('ciphertext') ?? ''),
    tag: base64url(reader.string('tag') ?? ''),
    aad: Buffer.from(aad === undefined ? protectedText : `${protectedText}.${aad}`),
  };
  for (const recipient of recipients) {
    await beforeTry();
    const header = [...shared, recipient.object('header')].filter((part) => part !== undefined);
    const encryptedKey = base64url(recipient.string('encrypted_key') ?? '');
    for (const key of keys) {
      const opened = tryKey({ header, encryptedKey, message }, key);
      if (opened !== undefined) return opened;
    }
  }
  return undefined;
}

const maxRecipients = 64;

interface GcmMessage {
  readonly iv: Buffer;
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
  readonly aad: Buffer;
}

interface Recipient {
  readonly header: readonly JsonReader[];
  readonly encryptedKey: Buffer;
  readonly message: GcmMessage;
}

/** A key that does not fit cannot be told from a damaged message: both are "no". */
function tryKey({ header, encryptedKey, message }: Recipient, key: KeyObject): Buffer | undefined {
  const text = (name: string) => header.map((part) => part.string(name)).find((value) => value !== undefined);
  const bits = gcmBits.get(text('enc') ?? '');
  if (bits === undefined) throw new CrioError('unimplemented', `JWE: unsupported enc ${JSON.stringify(text('enc'))}`);
  try {
    const contentKey = unwrapKey(text('alg') ?? '', header, encryptedKey, key);
    if (contentKey?.length !== bits / 8) return undefined;
    return openGcm(bits, contentKey, message);
  } catch {
    return undefined;
  }
}

const gcmBits: ReadonlyMap<string, 128 | 192 | 256> = new Map([
  ['A128GCM', 128],
  ['A192GCM', 192],
  ['A256GCM', 256],
]);

function openGcm(bits: 128 | 192 | 256, key: Buffer, { iv, ciphertext, tag, aad }: GcmMessage): Buffer {
  const decipher = createDecipheriv(`aes-${bits}-gcm`, key, iv, { authTagLength: 16 });
  decipher.setAAD(aad);
  decipher.setAuthTag(tag);
  return Buffer.concat([decipher.update(ciphertext), decipher.final()]);
}

function unwrapKey(
  algorithm: string,
  header: readonly JsonReader[],
  encryptedKey: Buffer,
  key: KeyObject,
): Buffer | undefined {
  if (key.asymmetricKeyType === 'rsa' && (algorithm === 'RSA-OAEP' || algorithm === 'RSA-OAEP-256')) {
    const oaepHash = algorithm === 'RSA-OAEP' ? 'sha1' : 'sha256';
    return privateDecrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash }, encryptedKey);
  }
  const wrap = /^ECDH-ES\+A(128|192|256)KW$/.exec(algorithm);
  if (key.asymmetricKeyType !== 'ec' || wrap === null) return undefined;
  const bits = Number(wrap[1]);
  const epk = header.map((part) => part.object('epk')).find((part) => part !== undefined);
  if (epk === undefined) return undefined;
  const jwk = Object.fromEntries(['kty', 'crv', 'x', 'y'].map((name) => [name, epk.string(name) ?? '']));
  const secret = diffieHellman({ privateKey: key, publicKey: createPublicKey({ key: jwk, format: 'jwk' }) });
  const party = (name: string) =>
    base64url(header.map((part) => part.string(name)).find((value) => value !== undefined) ?? '');
  const kek = concatKdf(secret, { algorithm, partyU: party('apu'), partyV: party('apv'), bits });
  const unwrap = createDecipheriv(`id-aes${bits}-wrap`, kek, Buffer.alloc(8, 0xa6));
  return Buffer.concat([unwrap.update(encryptedKey), unwrap.final()]);
}

/** RFC 7518, 4.6.2: one round of SHA-256 is enough for 256 bits. */
function concatKdf(
  secret: Buffer,
  info: { readonly algorithm: string; readonly partyU: Buffer; readonly partyV: Buffer; readonly bits: number },
): Buffer {
  const hash = createHash('sha256').update(number(1)).update(secret);
  for (const part of [Buffer.from(info.algorithm), info.partyU, info.partyV])
    hash.update(number(part.length)).update(part);
  return hash
    .update(number(info.bits))
    .digest()
    .subarray(0, info.bits / 8);
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function readHeader(data: Buffer): JsonReader | undefined {
  if (data.length === 0) return undefined;
  try {
    return new JsonReader(parseStrictJson(data, 'JWE header'), 'JWE header');
  } catch (error) {
    throw new CrioError('invalid', messageOf(error));
  }
}

function base64url(text: string): Buffer {
  return Buffer.from(text, 'base64url');
}
