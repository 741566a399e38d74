import { createPublicKey, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { isIP } from 'node:net';
import { CrioError, messageOf } from '../../base/errors.ts';
import { decodeBase64 } from './base64.ts';
import { checkChain, namesCodeSigning } from './certificate-chain.ts';
import { readCertificates } from './certificate.ts';
import type { Certificate } from './certificate.ts';
import { loadKeySources } from './key-sources.ts';
import type { KeySource, KeyText } from './key-sources.ts';
import { readPem } from './pem.ts';
import { checkRekorEntry } from './rekor.ts';
import type { SigstoreRule, SigstoreSigner } from './requirement.ts';

/** A sigstore signature as it is attached to an image. */
export interface SigstoreSignature {
  readonly mimeType: string;
  readonly payload: Buffer;
  readonly annotations: ReadonlyMap<string, string>;
}

export const sigstoreMimeType = 'application/vnd.dev.cosign.simplesigning.v1+json';
export const signatureAnnotation = 'dev.cosignproject.cosign/signature';
/** Of the image that holds the signatures: the log's promise, the signer's certificate, those that lead to a root. */
export const bundleAnnotation = 'dev.sigstore.cosign/bundle';
export const certificateAnnotation = 'dev.sigstore.cosign/certificate';
export const chainAnnotation = 'dev.sigstore.cosign/chain';

/** Says who made a signature: returns its payload when it is one that the rule takes, throws the reason otherwise. */
export type SigstoreCheck = (signature: SigstoreSignature) => Buffer;

/** Reads the keys and certificates that a rule names. */
export async function prepareSigstore({ signer, rekorKeys }: SigstoreRule): Promise<SigstoreCheck> {
  const logs = rekorKeys === undefined ? undefined : await loadRekorKeys(rekorKeys);
  const keysFor = await prepareSigner(signer, logs);
  return (signature) => {
    const { payload } = signature;
    const bytes = decodeBase64(annotation(signature, signatureAnnotation), 'signature');
    const keys = keysFor(signature, bytes);
    if (!keys.some((key) => verify(isEdwards(key) ? null : 'sha256', payload, key, bytes)))
      throw new CrioError('invalid', 'cryptographic signature verification failed: made by none of the keys');
    return payload;
  };
}

/** The keys of which one must have made this signature. */
type KeysFor = (signature: SigstoreSignature, bytes: Buffer) => readonly KeyObject[];

async function prepareSigner(signer: SigstoreSigner, logs: readonly KeyObject[] | undefined): Promise<KeysFor> {
  switch (signer.kind) {
    case 'keys': {
      const keys = await loadKeys(signer.keys);
      return logs === undefined ? () => keys : loggedKeys(keys, logs);
    }
    case 'fulcio': {
      const roots = await loadCertificates(signer.roots, 'Fulcio CA certificates');
      return (signature, bytes) => [checkFulcio({ ...signer, roots, logs: logs ?? [] }, signature, bytes)];
    }
    case 'pki': {
      const roots = await loadCertificates(signer.roots, 'PKI root certificates');
      const known = await loadCertificates(signer.intermediates, 'PKI intermediate certificates');
      return (signature) => [checkPki({ ...signer, roots, known }, signature)];
    }
  }
}

/** The key that the log's entry names; when it was made does not matter for a key. */
function loggedKeys(keys: readonly KeyObject[], logs: readonly KeyObject[]): KeysFor {
  return (signature, bytes) => {
    const bundle = annotation(signature, bundleAnnotation);
    const reasons: string[] = [];
    for (const key of keys) {
      const signer = key.export({ type: 'spki', format: 'der' });
      try {
        checkRekorEntry(bundle, logs, { signer, signature: bytes, payload: signature.payload });
        return [key];
      } catch (error) {
        reasons.push(messageOf(error));
      }
    }
    throw new CrioError('invalid', `No public key verified against the RekorSET: ${[...new Set(reasons)].join(', ')}`);
  };
}

interface FulcioTrust {
  readonly roots: readonly Certificate[];
  readonly logs: readonly KeyObject[];
  readonly oidcIssuer: string;
  readonly subjectEmail: string;
}

/** Fulcio's certificates live for minutes: what counts is that they were valid when the log took the signature. */
function checkFulcio(trust: FulcioTrust, signature: SigstoreSignature, bytes: Buffer): KeyObject {
  const bundle = annotation(signature, bundleAnnotation);
  const leaf = readLeaf(signature);
  const logged = { signer: leaf.x509.raw, signature: bytes, payload: signature.payload };
  const atMs = checkRekorEntry(bundle, trust.logs, logged);
  checkChain(leaf, { roots: trust.roots, intermediates: readChain(signature), atMs });
  if (!namesCodeSigning(leaf))
    throw new CrioError('invalid', 'Fulcio certificate is not for code signing (extendedKeyUsage)');
  if (leaf.oidcIssuer === undefined)
    throw new CrioError('invalid', 'Fulcio certificate is missing the issuer extension');
  if (leaf.oidcIssuer !== trust.oidcIssuer)
    throw new CrioError('invalid', `Unexpected Fulcio OIDC issuer ${shown(leaf.oidcIssuer)}`);
  checkEmail(leaf, trust.subjectEmail);
  return leaf.x509.publicKey;
}

interface PkiTrust {
  readonly roots: readonly Certificate[];
  readonly known: readonly Certificate[];
  readonly subjectEmail: string | undefined;
  readonly subjectHostname: string | undefined;
}

/** Without a log nothing says when it was signed: the certificate must be valid now. */
function checkPki(trust: PkiTrust, signature: SigstoreSignature): KeyObject {
  const leaf = readLeaf(signature);
  const intermediates = [...trust.known, ...readChain(signature)];
  checkChain(leaf, { roots: trust.roots, intermediates, atMs: Date.now() });
  if (trust.subjectEmail !== undefined) checkEmail(leaf, trust.subjectEmail);
  if (trust.subjectHostname !== undefined) checkHostname(leaf, trust.subjectHostname);
  return leaf.x509.publicKey;
}

function checkEmail({ emails }: Certificate, wanted: string): void {
  if (emails.includes(wanted)) return;
  throw new CrioError(
    'invalid',
    `Required email ${shown(wanted)} not found (got ${emails.slice(0, 5).map(shown).join(', ')})`,
  );
}

/** Only subjectAltName counts, and `*` for a whole first label. */
function checkHostname({ x509 }: Certificate, wanted: string): void {
  const host = wanted.replace(/^\[(.*)\]$/, '$1');
  const found =
    isIP(host) === 0
      ? x509.checkHost(host, { subject: 'never', partialWildcards: false, singleLabelSubdomains: true })
      : x509.checkIP(host);
  if (found === undefined || wanted.startsWith('.'))
    throw new CrioError('invalid', `Unexpected subject hostname: the certificate is not valid for ${shown(wanted)}`);
}

function readLeaf(signature: SigstoreSignature): Certificate {
  const [leaf, ...others] = readCertificates(annotation(signature, certificateAnnotation), 'the signature');
  if (leaf === undefined) throw new CrioError('invalid', 'no certificate found in signature certificate data');
  if (others.length > 0)
    throw new CrioError('invalid', 'unexpected multiple certificates present in signature certificate data');
  return leaf;
}

/** The last one is the signer's root by convention: trust comes from the policy only. */
function readChain({ annotations }: SigstoreSignature): readonly Certificate[] {
  return readCertificates(annotations.get(chainAnnotation) ?? '', 'the chain of the signature').slice(0, -1);
}

async function loadKeys(sources: readonly KeySource[]): Promise<readonly KeyObject[]> {
  return (await loadKeySources(sources, 'public key')).map(parseKey);
}

async function loadRekorKeys(sources: readonly KeySource[]): Promise<readonly KeyObject[]> {
  return (await loadKeySources(sources, 'Rekor public key')).map((text) => {
    const key = parseKey(text);
    if (key.asymmetricKeyType !== 'ec') throw new CrioError('invalid', `read ${text.name}: it is not using ECDSA`);
    return key;
  });
}

/** A private key or a certificate has a public one in it, but is none. */
function parseKey({ data, name }: KeyText): KeyObject {
  try {
    const [block] = readPem(data.toString('latin1'), name);
    if (block === undefined) throw new Error('not PEM');
    if (block.label === 'PUBLIC KEY') return createPublicKey({ key: block.der, format: 'der', type: 'spki' });
    if (block.label === 'RSA PUBLIC KEY') return createPublicKey({ key: block.der, format: 'der', type: 'pkcs1' });
    throw new Error(`unexpected ${JSON.stringify(block.label)}`);
  } catch (error) {
    throw new CrioError('invalid', `read ${name}: ${messageOf(error)}`);
  }
}

async function loadCertificates(sources: readonly KeySource[], what: string): Promise<readonly Certificate[]> {
  const texts = await loadKeySources(sources, what);
  return texts.flatMap(({ data, name }) => {
    const certificates = readCertificates(data.toString('latin1'), name);
    if (certificates.length === 0) throw new CrioError('invalid', `read ${name}: no certificate in it`);
    return certificates;
  });
}

function annotation({ annotations }: SigstoreSignature, key: string): string {
  const value = annotations.get(key);
  if (value === undefined) throw new CrioError('invalid', `missing ${key} annotation`);
  return value;
}

function isEdwards(key: KeyObject): boolean {
  return key.asymmetricKeyType === 'ed25519' || key.asymmetricKeyType === 'ed448';
}

/** What a signer wrote goes into logs and errors. */
function shown(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}
