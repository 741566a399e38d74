import type { Key, Message, PublicKey } from 'openpgp';
import { CrioError, messageOf } from '../../base/errors.ts';
import { bodyLimits } from '../registry/limits.ts';
import { loadKeySources } from './key-sources.ts';
import type { KeyText } from './key-sources.ts';
import type { SignedByRule } from './requirement.ts';

/** OpenPGP is loaded when a policy needs it: 24 MB of memory. */
function loadOpenpgp() {
  return import('openpgp');
}

/** The keys of a rule, of which one must have signed. */
export async function loadSigningKeys({ keyType, keys: sources }: SignedByRule): Promise<readonly PublicKey[]> {
  if (keyType !== 'GPGKeys')
    throw new CrioError('unimplemented', `keyType ${JSON.stringify(keyType)} is not supported, only "GPGKeys"`);
  const rings = await loadKeySources(sources, 'public key');
  const keys = (await Promise.all(rings.map(parseKeys))).flat();
  // A key file without keys must not look like one that fits nothing.
  if (keys.length === 0) throw new CrioError('invalid', 'no public keys imported');
  return keys;
}

/** Binary or with ASCII armor; one file may hold several keys. */
async function parseKeys({ data: ring, name }: KeyText): Promise<readonly PublicKey[]> {
  const { readKeys: readRing } = await loadOpenpgp();
  const text = ring.toString('latin1');
  try {
    const keys: readonly Key[] = await (text.includes('-----BEGIN PGP')
      ? readRing({ armoredKeys: text })
      : readRing({ binaryKeys: ring }));
    return keys.map((key) => key.toPublic());
  } catch (error) {
    throw new CrioError('invalid', `read ${name}: ${messageOf(error)}`);
  }
}

/**
 * What a signed message says, when one of the keys made it: exactly one signature that has not expired, by a key that is
 * neither expired nor revoked now. Throws with the reason otherwise; nothing of the content is looked at before.
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
  // Throws for a signature that has expired, too. The key is checked for the time of the signature only: one that has ended
  // since is not trusted any more.
  await signature.verified;
  await key.getSigningKey(signature.keyID, new Date());
  return Buffer.from(opened.data);
}
