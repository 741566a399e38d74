import { CrioError } from '../../base/errors.ts';
import type { Certificate } from './certificate.ts';
import { constraintProblem, createComparisonBudget } from './name-constraints.ts';
import type { ComparisonBudget } from './name-constraints.ts';

const usages = { codeSigning: '1.3.6.1.5.5.7.3.3', any: '2.5.29.37.0' } as const;

/** Certificates between signer and root, and signatures checked in the search for a chain: what is offered is hostile. */
const maxDepth = 8;
const maxChecks = 100;

export interface ChainOptions {
  /** Trusted whoever made them. */
  readonly roots: readonly Certificate[];
  /** Not trusted, but they may lead from the signer to a root. */
  readonly intermediates: readonly Certificate[];
  /** When the signature was made, or is used. */
  readonly atMs: number;
}

/**
 * Throws `invalid` with the reason unless a chain leads from the certificate to a root in which every certificate is valid
 * at the time and for signing code, and every issuer is an authority that may sign as many below it, and these names; RFC
 * 5280, 6. Throws `resource-exhausted` when that takes too many checks.
 */
export function checkChain(leaf: Certificate, { roots, intermediates, atMs }: ChainOptions): void {
  const problem = problemOf(leaf, atMs);
  if (problem !== undefined) throw refused(leaf, problem);
  // A policy may name the signer's certificate itself.
  if (roots.some(({ x509 }) => x509.raw.equals(leaf.x509.raw))) return;
  const reasons = new Set<string>();
  let checks = 0;
  const budget = createComparisonBudget();
  const leadsToRoot = (chain: readonly Certificate[]): boolean => {
    for (const issuer of [...roots, ...intermediates]) {
      const [child] = chain.slice(-1);
      if (child === undefined || chain.includes(issuer)) continue;
      if (child.x509.issuer !== issuer.x509.subject) continue;
      checks += 1;
      if (checks > maxChecks) throw new CrioError('resource-exhausted', 'check certificate: too many possible chains');
      const why =
        issuerProblem(child, issuer, chain.length - 1) ??
        problemOf(issuer, atMs) ??
        namesProblem(chain, issuer, budget);
      if (why !== undefined) reasons.add(`${nameOf(issuer)}: ${why}`);
      else if (roots.includes(issuer)) return true;
      else if (chain.length <= maxDepth && leadsToRoot([...chain, issuer])) return true;
    }
    return false;
  };
  if (leadsToRoot([leaf])) return;
  throw refused(leaf, [...reasons].join('; ') || 'signed by unknown authority');
}

function problemOf({ x509, extendedKeyUsage, unsupported }: Certificate, atMs: number): string | undefined {
  const at = new Date(atMs).toISOString();
  if (atMs < x509.validFromDate.getTime())
    return `not yet valid at ${at}, only from ${x509.validFromDate.toISOString()}`;
  if (atMs > x509.validToDate.getTime())
    return `expired at ${at}, it was valid until ${x509.validToDate.toISOString()}`;
  if (unsupported !== undefined) return unsupported;
  if (extendedKeyUsage === undefined) return undefined;
  const allowsSigning = extendedKeyUsage.includes(usages.codeSigning) || extendedKeyUsage.includes(usages.any);
  return allowsSigning ? undefined : 'its extendedKeyUsage does not allow code signing';
}

function issuerProblem(child: Certificate, issuer: Certificate, between: number): string | undefined {
  if (!issuer.isAuthority) return 'not an authority (basicConstraints)';
  if (!issuer.maySignCertificates) return 'its keyUsage does not allow to sign certificates';
  if (issuer.pathLength !== undefined && between > issuer.pathLength)
    return `allows ${issuer.pathLength} authorities below it, not ${between}`;
  if (child.badSignature !== undefined) return `${nameOf(child)}: ${child.badSignature}`;
  if (!child.x509.checkIssued(issuer.x509)) return `did not issue ${nameOf(child)}`;
  return child.x509.verify(issuer.x509.publicKey) ? undefined : `did not sign ${nameOf(child)}`;
}

/** What an authority may not sign, no authority below it may either. */
function namesProblem(
  below: readonly Certificate[],
  { nameConstraints }: Certificate,
  budget: ComparisonBudget,
): string | undefined {
  if (nameConstraints === undefined) return undefined;
  const names = below.flatMap((certificate) => certificate.names);
  return constraintProblem(names, nameConstraints, budget);
}

/** Fulcio promises this extension; elsewhere its absence means any use. */
export function namesCodeSigning({ extendedKeyUsage }: Certificate): boolean {
  return extendedKeyUsage?.includes(usages.codeSigning) === true;
}

function refused(leaf: Certificate, why: string): CrioError {
  return new CrioError('invalid', `verifying leaf certificate failed: ${nameOf(leaf)}: ${why}`);
}

/** Names come from the signer: one bounded line. */
function nameOf({ x509 }: Certificate): string {
  const subject = x509.subject ?? '';
  const text = subject === '' ? 'certificate without subject' : subject;
  return JSON.stringify(text.replaceAll('\n', ', ').slice(0, 200));
}
