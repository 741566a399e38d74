import { X509Certificate } from 'node:crypto';
import { CrioError, messageOf } from '../../base/errors.ts';
import { contentOf, derTags, readBoolean, readDer, readInteger, readObjectId, readOnlyDer } from './der.ts';
import type { DerElement } from './der.ts';
import { nameTags, readNameConstraints } from './name-constraints.ts';
import type { NameConstraints } from './name-constraints.ts';
import { readPem } from './pem.ts';
import { signatureProblem } from './signature-algorithm.ts';

/** What decides about a certificate for signing, RFC 5280. */
export interface Certificate {
  readonly x509: X509Certificate;
  /** basicConstraints says that it is an authority. */
  readonly isAuthority: boolean;
  /** Certificates of authorities that may stand between it and the signer's; undefined for any number. */
  readonly pathLength: number | undefined;
  /** keyUsage has keyCertSign, or there is none. */
  readonly maySignCertificates: boolean;
  /** Object identifiers of extendedKeyUsage; undefined without it, which means any use. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly emails: readonly string[];
  /** Of every kind: subjectAltName, as GeneralNames */
  readonly names: readonly DerElement[];
  /** For the names of certificates below it */
  readonly nameConstraints: NameConstraints | undefined;
  /** Why it must be in no chain, though it can be read; undefined when it may. */
  readonly unsupported: string | undefined;
  /** Why the signature on it proves nothing; undefined when it may. A root's own is never looked at. */
  readonly badSignature: string | undefined;
  /** Fulcio's extension: who vouched for the identity; undefined without it. */
  readonly oidcIssuer: string | undefined;
}

const ids = {
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  certificatePolicies: '2.5.29.32',
  extendedKeyUsage: '2.5.29.37',
  nameConstraints: '2.5.29.30',
  /** https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md: the text itself, and as a UTF8String. */
  oidcIssuer: '1.3.6.1.4.1.57264.1.1',
  oidcIssuerV2: '1.3.6.1.4.1.57264.1.8',
} as const;

/** Extensions whose meaning is known here; another one that is critical makes a certificate useless. */
const understood: readonly string[] = Object.values(ids);

const maxCertificates = 32;

/** The certificates of a PEM text, in order. Throws `invalid` when one of them cannot be read. */
export function readCertificates(text: string, what: string): readonly Certificate[] {
  const blocks = readPem(text, what);
  if (blocks.length > maxCertificates)
    throw new CrioError('resource-exhausted', `${what}: more than ${maxCertificates} certificates`);
  return blocks.map(({ label, der }) => {
    if (label !== 'CERTIFICATE') throw new CrioError('invalid', `${what}: unexpected ${JSON.stringify(label)}`);
    return readCertificate(der, what);
  });
}

export function readCertificate(der: Buffer, what: string): Certificate {
  try {
    const x509 = new X509Certificate(der);
    const { extensions, critical, algorithm } = readBody(x509.raw);
    const constraints = readBasicConstraints(extensions.get(ids.basicConstraints));
    const names = readNames(extensions.get(ids.subjectAltName));
    const limits = extensions.get(ids.nameConstraints);
    const nameConstraints = limits === undefined ? undefined : readNameConstraints(limits);
    return {
      x509,
      ...constraints,
      maySignCertificates: readMaySign(extensions.get(ids.keyUsage)),
      extendedKeyUsage: readUsages(extensions.get(ids.extendedKeyUsage)),
      emails: emailsIn(names),
      names,
      // Critical or not: what it excludes is excluded.
      nameConstraints,
      unsupported: unsupportedIn(critical, nameConstraints),
      badSignature: signatureProblem(algorithm),
      oidcIssuer: readOidcIssuer(extensions),
    };
  } catch (error) {
    throw new CrioError('invalid', `read certificate of ${what}: ${messageOf(error)}`);
  }
}

function unsupportedIn(critical: ReadonlySet<string>, limits: NameConstraints | undefined): string | undefined {
  const unknown = [...critical].find((id) => !understood.includes(id));
  if (unknown !== undefined) return `unknown critical extension ${unknown}`;
  const kind = critical.has(ids.nameConstraints) ? limits?.unsupportedKind : undefined;
  return kind === undefined ? undefined : `critical name constraints of kind ${kind} are not supported`;
}

interface Extensions {
  readonly extensions: ReadonlyMap<string, Buffer>;
  /** Which of them are. */
  readonly critical: ReadonlySet<string>;
}

/** node:crypto shows neither critical extensions nor those it does not know. */
function readBody(raw: Buffer): Extensions & { readonly algorithm: DerElement | undefined } {
  const [body, algorithm] = readDer(readOnlyDer(raw, derTags.sequence));
  const parts = readDer(contentOf(body, derTags.sequence));
  const last = parts.at(-1);
  const list = last?.tag === derTags.explicit3 ? readDer(readOnlyDer(last.content, derTags.sequence)) : [];
  return { ...readExtensions(list), algorithm };
}

function readExtensions(list: readonly DerElement[]): Extensions {
  const extensions = new Map<string, Buffer>();
  const critical = new Set<string>();
  for (const element of list) {
    const [oid, second, third] = readDer(contentOf(element, derTags.sequence));
    const id = readObjectId(contentOf(oid, derTags.objectId));
    const isCritical = second?.tag === derTags.boolean && readBoolean(second.content);
    const value = contentOf(third ?? second, derTags.octetString);
    if (extensions.has(id)) throw new Error(`extension ${id} stands twice`);
    if (isCritical) critical.add(id);
    extensions.set(id, value);
  }
  return { extensions, critical };
}

function readBasicConstraints(value: Buffer | undefined): Pick<Certificate, 'isAuthority' | 'pathLength'> {
  if (value === undefined) return { isAuthority: false, pathLength: undefined };
  const parts = readDer(readOnlyDer(value, derTags.sequence));
  const [first] = parts;
  const isAuthority = first?.tag === derTags.boolean && readBoolean(first.content);
  const length = parts.find(({ tag }) => tag === derTags.integer);
  return { isAuthority, pathLength: length === undefined ? undefined : readInteger(length.content) };
}

/** Bit 5 of the bit string: its first octet counts unused bits. */
function readMaySign(value: Buffer | undefined): boolean {
  if (value === undefined) return true;
  const bits = readOnlyDer(value, 0x03);
  return ((bits[1] ?? 0) & 0x04) !== 0;
}

function readUsages(value: Buffer | undefined): readonly string[] | undefined {
  if (value === undefined) return undefined;
  return readDer(readOnlyDer(value, derTags.sequence)).map((element) =>
    readObjectId(contentOf(element, derTags.objectId)),
  );
}

function readNames(value: Buffer | undefined): readonly DerElement[] {
  return value === undefined ? [] : readDer(readOnlyDer(value, derTags.sequence));
}

/** Only `rfc822Name`, `[1] IA5String`: the subject's common name is no identity. */
function emailsIn(names: readonly DerElement[]): readonly string[] {
  return names
    .filter(({ tag }) => tag === nameTags.email)
    .map(({ content }) => {
      if (content.some((byte) => byte < 0x20 || byte > 0x7e)) throw new Error('an email address is not ASCII');
      return content.toString('latin1');
    });
}

function readOidcIssuer(extensions: ReadonlyMap<string, Buffer>): string | undefined {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const old = extensions.get(ids.oidcIssuer);
  const current = extensions.get(ids.oidcIssuerV2);
  const oldText = old === undefined ? undefined : decoder.decode(old);
  const text = current === undefined ? oldText : decoder.decode(readOnlyDer(current, derTags.utf8String));
  if (oldText !== undefined && oldText !== text) throw new Error('its two OIDC issuers differ');
  return text;
}
