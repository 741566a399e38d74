import { createHash, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { CrioError } from '../../base/errors.ts';
import { JsonReader, parseStrictJson } from '../json.ts';
import { decodeBase64 } from './base64.ts';
import { allowKeys } from './identity.ts';
import { readOnlyPem } from './pem.ts';

/** What an entry of a transparency log must be about. */
export interface LoggedSignature {
  /** The key or the certificate, DER. */
  readonly signer: Buffer;
  readonly signature: Buffer;
  readonly payload: Buffer;
}

/**
 * Checks the signed entry timestamp of a Rekor log, the annotation `dev.sigstore.cosign/bundle`, without asking the log:
 * signed by one of its keys, over an entry (`hashedrekord` 0.0.1) that is about this signature. Returns the time at
 * which the log took the entry, ms since the epoch. Throws `invalid` with the reason.
 */
export function checkRekorEntry(bundle: string, keys: readonly KeyObject[], signed: LoggedSignature): number {
  const reader = exactly(Buffer.from(bundle), 'Rekor SET', ['SignedEntryTimestamp', 'Payload']);
  const timestamp = decodeBase64(text(reader, 'SignedEntryTimestamp'), 'Rekor SET');
  const payload = object(reader, 'Payload');
  exactKeys(payload, ['body', 'integratedTime', 'logIndex', 'logID']);
  const body = text(payload, 'body');
  const integratedTime = integer(payload, 'integratedTime');
  const entry = { body, integratedTime, logID: text(payload, 'logID'), logIndex: integer(payload, 'logIndex') };
  // RFC 8785: with sorted keys this is the canonical form of strings and whole numbers, over which the log signs.
  const canonical = Buffer.from(JSON.stringify(entry));
  if (!keys.some((key) => verify('sha256', canonical, key, timestamp)))
    throw new CrioError('invalid', 'cryptographic signature verification of Rekor SET failed');
  checkBody(decodeBase64(body, 'body of the Rekor SET'), signed);
  return integratedTime * 1000;
}

function checkBody(body: Buffer, { signer, signature, payload }: LoggedSignature): void {
  const what = 'Rekor entry';
  const reader = new JsonReader(parseStrictJson(body, what), what);
  const kind = `${text(reader, 'kind')} ${text(reader, 'apiVersion')}`;
  if (kind !== 'hashedrekord 0.0.1')
    throw new CrioError('invalid', `${what}: unsupported kind ${JSON.stringify(kind)}`);
  const spec = object(reader, 'spec');
  const logged = object(spec, 'signature');
  const pem = decodeBase64(text(object(logged, 'publicKey'), 'content'), `${what}: public key`).toString('latin1');
  if (!readOnlyPem(pem, `${what}: public key`).der.equals(signer))
    throw new CrioError('invalid', 'publicKey in Rekor SET does not match');
  if (!decodeBase64(text(logged, 'content'), `${what}: signature`).equals(signature))
    throw new CrioError('invalid', 'signature in Rekor SET does not match');
  const hash = object(object(spec, 'data'), 'hash');
  if (text(hash, 'algorithm') !== 'sha256')
    throw new CrioError('invalid', `${what}: unsupported hash ${JSON.stringify(text(hash, 'algorithm'))}`);
  if (text(hash, 'value').toLowerCase() !== createHash('sha256').update(payload).digest('hex'))
    throw new CrioError('invalid', 'payload in Rekor SET does not match');
}

function exactly(data: Buffer, what: string, keys: readonly string[]): JsonReader {
  const reader = new JsonReader(parseStrictJson(data, what), what);
  exactKeys(reader, keys);
  return reader;
}

function exactKeys(reader: JsonReader, keys: readonly string[]): void {
  allowKeys(reader, keys);
  const missing = keys.find((key) => !reader.has(key));
  if (missing !== undefined) throw absent(reader, missing);
}

function text(reader: JsonReader, key: string): string {
  const value = reader.string(key);
  if (value === undefined) throw absent(reader, key);
  return value;
}

function integer(reader: JsonReader, key: string): number {
  const value = reader.integer(key);
  if (value === undefined || value < 0) throw absent(reader, key);
  return value;
}

function object(reader: JsonReader, key: string): JsonReader {
  const value = reader.object(key);
  if (value === undefined) throw absent(reader, key);
  return value;
}

function absent({ path }: JsonReader, key: string): CrioError {
  return new CrioError('invalid', `${path}.${key}: missing`);
}
