import { CrioError } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import type { ImageRecord, ImageStore } from '../../storage/store.ts';
import { JsonReader, parseLooseJson } from '../json.ts';
import type { SigstoreSignature } from './sigstore.ts';

/** A simple signature is the bytes of its OpenPGP message. */
export type ImageSignature = SigstoreSignature | Buffer;

/** The signatures of each manifest that led to an image. */
export type SignaturesByDigest = ReadonlyMap<Digest, readonly ImageSignature[]>;

const sigstorePrefix = Buffer.from('\0sigstore-json\n');

/** Big data and metadata that keep signatures in a store, storage-format 6: all of a manifest joined, sizes in the metadata. */
export function encodeSignatures(signatures: SignaturesByDigest): {
  readonly metadata: string;
  readonly bigData: readonly { readonly key: string; readonly data: Buffer }[];
} {
  const filled = [...signatures].filter(([, items]) => items.length > 0);
  if (filled.length === 0) return { metadata: '{}', bigData: [] };
  const encoded = filled.map(([digest, items]) => ({ digest, blobs: items.map(encodeSignature) }));
  const sizes = Object.fromEntries(encoded.map(({ digest, blobs }) => [digest, blobs.map((blob) => blob.length)]));
  return {
    metadata: JSON.stringify({ 'signatures-sizes': sizes }),
    bigData: encoded.map(({ digest, blobs }) => ({ key: signatureKey(digest), data: Buffer.concat(blobs) })),
  };
}

/** The signatures a store has for an image; kinds that are not known are left out. */
export async function readStoredSignatures(images: ImageStore, record: ImageRecord): Promise<SignaturesByDigest> {
  const metadata = record.metadata === '' ? new Map() : parseLooseJson(Buffer.from(record.metadata), 'image metadata');
  const sizes = new JsonReader(metadata, 'image metadata').object('signatures-sizes');
  const byDigest = new Map<Digest, readonly ImageSignature[]>();
  for (const digest of sizes?.keys ?? []) {
    const data = (await images.readBigData(record.id, signatureKey(digest))) ?? Buffer.alloc(0);
    const found: ImageSignature[] = [];
    let offset = 0;
    for (const size of sizes?.array(digest) ?? []) {
      if (typeof size !== 'number' || size < 0 || offset + size > data.length) {
        throw new CrioError('invalid', `read signatures of image ${record.id}: sizes do not fit the data`);
      }
      const signature = decodeSignature(data.subarray(offset, offset + size));
      if (signature !== undefined) found.push(signature);
      offset += size;
    }
    byDigest.set(digest, found);
  }
  return byDigest;
}

/** Of one manifest: in number, and in characters of base64. */
const maxKept = 128;
const maxKeptText = 32 << 20;

/**
 * Both, without what is in both. One image may have several names: who pulls it under one without signatures must not take
 * away those that another name has.
 */
export function mergeSignatures(newer: SignaturesByDigest, older: SignaturesByDigest): SignaturesByDigest {
  const merged = new Map<Digest, readonly ImageSignature[]>();
  for (const digest of new Set([...newer.keys(), ...older.keys()])) {
    const all = [...(newer.get(digest) ?? []), ...(older.get(digest) ?? [])];
    const distinct = new Map(all.map((signature) => [encodeSignature(signature).toString('base64'), signature]));
    let bytes = 0;
    const kept = [...distinct].slice(0, maxKept).filter(([text]) => (bytes += text.length) <= maxKeptText);
    merged.set(
      digest,
      kept.map(([, signature]) => signature),
    );
  }
  return merged;
}

function signatureKey(digest: Digest): string {
  return `signature-${digest.slice(digest.indexOf(':') + 1)}`;
}

export function encodeSignature(signature: ImageSignature): Buffer {
  if (Buffer.isBuffer(signature)) return signature;
  const { mimeType, payload, annotations } = signature;
  const json = { mimeType, payload: payload.toString('base64'), annotations: Object.fromEntries(annotations) };
  return Buffer.concat([sigstorePrefix, Buffer.from(JSON.stringify(json))]);
}

/** Undefined for a kind that is not known. */
export function decodeSignature(data: Buffer): ImageSignature | undefined {
  // The first byte of every OpenPGP packet has its highest bit set (RFC 9580, 4.2); other kinds begin with a zero byte.
  if (((data[0] ?? 0) & 0x80) !== 0) return data;
  if (!data.subarray(0, sigstorePrefix.length).equals(sigstorePrefix)) return undefined;
  const reader = new JsonReader(
    parseLooseJson(data.subarray(sigstorePrefix.length), 'stored signature'),
    'stored signature',
  );
  return {
    mimeType: reader.string('mimeType') ?? '',
    payload: Buffer.from(reader.string('payload') ?? '', 'base64'),
    annotations: reader.stringMap('annotations'),
  };
}
