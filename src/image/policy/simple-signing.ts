import { readFile } from 'node:fs/promises';
import type { Key, Message, PublicKey } from 'openpgp';
import { CrioError, messageOf, wrap } from '../../base/errors.ts';
import { JsonReader } from '../json.ts';
import { bodyLimits } from '../registry/limits.ts';
import { allowKeys, readSignedIdentity } from './identity.ts';
import type { SignedIdentity } from './identity.ts';
import type { Requirement } from './policy-file.ts';

/** A `signedBy` requirement with its keys read. */
export interface SimpleSigningRequirement {
  readonly keys: readonly PublicKey[];
  readonly identity: SignedIdentity;
}

/** OpenPGP is loaded when a policy needs it: 24 MB of memory. */
function loadOpenpgp() {
  return import('openpgp');
}

export async function readSignedByRequirement(
  requirement: Requirement,
  where: string,
): Promise<SimpleSigningRequirement> {
  const reader = new JsonReader(requirement.fields, where);
  allowKeys(reader, ['type', 'keyType', 'keyPath', 'keyPaths', 'keyData', 'signedIdentity']);
  const keyType = reader.string('keyType') ?? '';
  if (keyType !== 'GPGKeys')
    throw new CrioError(
      'unimplemented',
      `${where}: keyType ${JSON.stringify(keyType)} is not supported, only "GPGKeys"`,
    );
  const sources = ['keyPath', 'keyPaths', 'keyData'].filter((key) => reader.has(key));
  if (sources.length !== 1)
    throw new CrioError('invalid', `${where}: exactly one of keyPath, keyPaths and keyData must be given`);
  const identity = readSignedIdentity(reader.object('signedIdentity'));
  return { keys: await readKeys(reader, where), identity };
}

async function readKeys(reader: JsonReader, where: string): Promise<readonly PublicKey[]> {
  const path = reader.string('keyPath');
  const files = await Promise.all((path === undefined ? reader.strings('keyPaths') : [path]).map(readKeyFile));
  const data = reader.string('keyData');
  const rings = data === undefined ? files : [Buffer.from(data, 'base64')];
  const keys = (await Promise.all(rings.map((ring) => parseKeys(ring, where)))).flat();
  // A key file without keys must not look like one that fits nothing.
  if (keys.length === 0) throw new CrioError('invalid', `${where}: no public keys imported`);
  return keys;
}

async function readKeyFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw wrap(`read public key "${path}"`, error);
  }
}

/** Binary or with ASCII armor; one file may hold several keys. */
async function parseKeys(ring: Buffer, where: string): Promise<readonly PublicKey[]> {
  const { readKeys: readRing } = await loadOpenpgp();
  const text = ring.toString('latin1');
  try {
    const keys: readonly Key[] = await (text.includes('-----BEGIN PGP')
      ? readRing({ armoredKeys: text })
      : readRing({ binaryKeys: ring }));
    return keys.map((key) => key.toPublic());
  } catch (error) {
    throw new CrioError('invalid', `${where}: read public key: ${messageOf(error)}`);
  }
}

/**
 * What a signed message says, when one of the keys made it: exactly one signature, by a key that is neither expired nor
 * revoked now. Throws with the reason otherwise; nothing of the content is looked at before.
 */
export async function openSignedMessage(data: Buffer, keys: readonly PublicKey[]): Promise<Buffer> {
  const openpgp = await loadOpenpgp();
  const config = { maxDecompressedMessageSize: bodyLimits.signature };
  let message: Message<Uint8Array>;
  try {
    message = await openpgp.readMessage({ binaryMessage: new Uint8Array(data), config });
  } catch (error) {
    throw new CrioError('invalid', `not an OpenPGP message: ${messageOf(error)}`);
  }
  const opened = await openpgp.verify({ message, verificationKeys: [...keys], format: 'binary', config });
  const [signature, ...others] = opened.signatures;
  if (signature === undefined || others.length > 0)
    throw new CrioError('invalid', `Unexpected number of signatures: ${opened.signatures.length}, expected 1`);
  const key = keys.find((candidate) => candidate.getKeys(signature.keyID).length > 0);
  if (key === undefined)
    throw new CrioError('invalid', `signed by key ${signature.keyID.toHex().toUpperCase()}, which is not accepted`);
  await signature.verified;
  const packets = await signature.signature;
  checkSignatureTime(packets.packets);
  // The check above is for the time of the signature; a key that has ended since is not trusted any more.
  await key.getSigningKey(signature.keyID, new Date());
  return Buffer.from(opened.data);
}

function checkSignatureTime(packets: readonly { isExpired(date?: Date): boolean }[]): void {
  if (packets.length === 0 || packets.some((packet) => packet.isExpired(new Date())))
    throw new CrioError('invalid', 'the signature is expired');
}
