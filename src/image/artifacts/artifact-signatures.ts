import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CrioError, hasCode } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import type { Logger } from '../../base/log.ts';
import { readBounded } from '../../base/read-bounded.ts';
import { JsonReader, parseLooseJson } from '../json.ts';
import { decodeSignature, encodeSignature, mergeSignatures } from '../policy/stored-signatures.ts';
import type { SignaturesByDigest } from '../policy/stored-signatures.ts';
import { names, writeDurably } from './artifact-files.ts';

const version = 1;
/** In one file: a manifest and the lists that named it. */
const maxManifests = 64;
/** Of all signatures of a file, in characters of base64; the second is for what stands between them. */
const maxText = 32 << 20;
const maxFileBytes = maxText + (1 << 20);

/**
 * Signatures that pulls found for artifacts: a file for each manifest, in a folder of its own, as an OCI layout has no
 * place for them. Who writes holds the lock of the layout.
 */
export class ArtifactSignatures {
  readonly #dir: string;
  readonly #log: Logger;

  constructor(dir: string, log: Logger) {
    this.#dir = dir;
    this.#log = log;
  }

  /** A file that cannot be read is as good as none: then a policy that asks for signatures refuses. */
  async read(digest: Digest): Promise<SignaturesByDigest> {
    try {
      return decodeSignatureFile(await readBounded(this.#path(digest), maxFileBytes));
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) this.#log.warn(`Signatures of artifact ${digest} cannot be read`, error);
      return new Map();
    }
  }

  /** Those of another pull stay: it may have been under another name. */
  async add(digest: Digest, signatures: SignaturesByDigest): Promise<void> {
    if ([...signatures.values()].every((items) => items.length === 0)) return;
    const merged = mergeSignatures(signatures, await this.read(digest));
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    await writeDurably(this.#path(digest), (append) => append(encodeSignatureFile(merged)));
  }

  async deleteUnless(isNeeded: (digest: Digest) => Promise<boolean>): Promise<void> {
    for (const name of await names(this.#dir)) {
      const digest = name.replace(/\.json$/, '').replace('-', ':');
      if (!(await isNeeded(digest))) await rm(join(this.#dir, name), { force: true });
    }
  }

  #path(digest: Digest): string {
    return join(this.#dir, `${digest.replace(':', '-')}.json`);
  }
}

/** What is too much is left out, the oldest first. */
export function encodeSignatureFile(signatures: SignaturesByDigest): Buffer {
  let left = maxText;
  const manifests = [...signatures].slice(0, maxManifests).map(([digest, items]) => {
    const texts = items.map((item) => encodeSignature(item).toString('base64'));
    return { digest, signatures: texts.filter((text) => (left -= text.length) >= 0) };
  });
  return Buffer.from(JSON.stringify({ version, manifests }));
}

/** Throws `invalid`. */
export function decodeSignatureFile(data: Buffer): SignaturesByDigest {
  const reader = new JsonReader(parseLooseJson(data, 'artifact signatures'), 'artifact signatures');
  if (reader.integer('version') !== version)
    throw new CrioError('invalid', `artifact signatures.version: expected ${version}`);
  return new Map(
    reader.array('manifests').map((json, position) => {
      const manifest = new JsonReader(json, `artifact signatures.manifests[${position}]`);
      const decoded = manifest.strings('signatures').map((text) => decodeSignature(Buffer.from(text, 'base64')));
      return [manifest.string('digest') ?? '', decoded.filter((signature) => signature !== undefined)];
    }),
  );
}
