import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { isThere } from '../base/is-there.ts';
import type { KeyObject } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { isIP, isIPv4 } from 'node:net';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { CrioError, hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

/**
 * Writes a self-signed pair when neither file exists, for `names` (addresses or host names), this host and loopback.
 * One file without the other is an error, as overwriting somebody's key is worse, unless a crash left the other one of a pair
 * that was being made here.
 */
export async function ensureCertificate(
  paths: { readonly cert: string; readonly key: string },
  names: readonly string[],
  log: Logger,
): Promise<void> {
  const { cert, key } = paths;
  const [hasCert, hasKey] = await Promise.all([isThere(cert), isThere(key)]);
  if (hasCert && hasKey) return;
  if (hasKey && (await finishPair(paths, log))) return;
  if (hasCert !== hasKey) {
    const [there, missing] = hasCert ? [cert, key] : [key, cert];
    throw new CrioError('invalid', `metrics certificate: "${there}" exists, but "${missing}" does not`);
  }
  const pair = selfSigned([...new Set([...names, hostname(), 'localhost', '127.0.0.1', '::1'])].filter(Boolean));
  await writeNew(key, pair.key, 0o600);
  await writeNew(cert, pair.cert, 0o644);
  // The key first: with it and the file beside it the next start can go on from here.
  await rename(newFile(key), key);
  await rename(newFile(cert), cert);
  log.info(`Made a self-signed certificate for metrics: "${cert}"`);
}

/** A pair is written whole under these names before it gets its own. */
function newFile(path: string): string {
  return `${path}.new`;
}

async function writeNew(path: string, text: string, mode: number): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await rm(newFile(path), { force: true });
  await writeFile(newFile(path), text, { mode, flag: 'wx', flush: true });
}

/** Gives the certificate its name when it is the one of the key that is there already. */
async function finishPair({ cert, key }: { cert: string; key: string }, log: Logger): Promise<boolean> {
  try {
    const made = new X509Certificate(await readFile(newFile(cert)));
    if (!made.checkPrivateKey(createPrivateKey(await readFile(key)))) return false;
    await rename(newFile(cert), cert);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) log.debug(() => `Read "${newFile(cert)}": ${messageOf(error)}`);
    return false;
  }
  log.info(`Finished the self-signed certificate for metrics that a crash left: "${cert}"`);
  return true;
}

const validYears = 10;
/** Clocks of scrapers may be late. */
const toleranceMs = 24 * 60 * 60_000;

/** An X.509 certificate (RFC 5280) for a server, signed with its own P-256 key; both in PEM. */
export function selfSigned(names: readonly string[]): { readonly cert: string; readonly key: string } {
  const pem = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const key = createPrivateKey(pem.privateKey);
  const body = certificateBody(names, createPublicKey(pem.publicKey));
  const signature = sign('sha256', body, key);
  const der = sequence(body, ecdsaWithSha256, tlv(0x03, Buffer.of(0), signature));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  const cert = `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
  return { cert, key: pem.privateKey };
}

/** TBSCertificate, version 3. */
function certificateBody(names: readonly string[], publicKey: KeyObject): Buffer {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // positive, and never with a leading zero byte
  const now = Date.now();
  const end = new Date(now);
  end.setUTCFullYear(end.getUTCFullYear() + validYears);
  const name = sequence(tlv(0x31, sequence(objectId('550403'), tlv(0x0c, Buffer.from('cri-o metrics')))));
  const alternatives = sequence(...names.map(generalName));
  const extensions = sequence(
    extension('551d11', alternatives), // subjectAltName
    extension('551d13', sequence(tlv(0x01, Buffer.of(0xff))), true), // basicConstraints: CA, as whoever trusts it trusts itself
    extension('551d25', sequence(objectId('2b06010505070301'))), // extKeyUsage: serverAuth
  );
  return sequence(
    tlv(0xa0, tlv(0x02, Buffer.of(2))),
    tlv(0x02, serial),
    ecdsaWithSha256,
    name,
    sequence(time(new Date(now - toleranceMs)), time(end)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, extensions),
  );
}

/** One item of ASN.1 in DER: tag, length, content. */
function tlv(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), content]);
  const bytes = Buffer.of(length >>> 8, length & 0xff).subarray(length < 0x100 ? 1 : 0);
  return Buffer.concat([Buffer.of(tag, 0x80 | bytes.length), bytes, content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tlv(0x30, ...parts);
}

/** From the hexadecimal digits of its encoding. */
function objectId(hex: string): Buffer {
  return tlv(0x06, Buffer.from(hex, 'hex'));
}

const ecdsaWithSha256 = sequence(objectId('2a8648ce3d040302'));

function extension(id: string, value: Buffer, isCritical = false): Buffer {
  const critical = isCritical ? [tlv(0x01, Buffer.of(0xff))] : [];
  return sequence(objectId(id), ...critical, tlv(0x04, value));
}

/** dNSName or iPAddress of a GeneralName. */
function generalName(name: string): Buffer {
  return isIP(name) === 0 ? tlv(0x82, Buffer.from(name, 'ascii')) : tlv(0x87, addressBytes(name));
}

function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  // The parser of URLs writes every form of IPv6 in hexadecimal groups.
  const [head = '', tail] = new URL(`http://[${address.replace(/%.*$/, '')}]`).hostname.slice(1, -1).split('::');
  const groups = (text: string) => text.split(':').filter((group) => group !== '');
  const [first, last] = [groups(head), groups(tail ?? '')];
  const all = [...first, ...Array.from({ length: 8 - first.length - last.length }, () => '0'), ...last];
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

/** GeneralizedTime; dates before 2050 must be UTCTime. */
function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/[-:T]|\.\d+/g, '');
  return date.getUTCFullYear() < 2050 ? tlv(0x17, Buffer.from(digits.slice(2))) : tlv(0x18, Buffer.from(digits));
}
