import { CrioError, messageOf } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import { formatReference } from '../reference.ts';
import type { Reference } from '../reference.ts';
import { matchesIdentity } from './identity.ts';
import type { SignedIdentity } from './identity.ts';
import type { Policy } from './policy-file.ts';
import { policyScopes } from './policy-scopes.ts';
import type { Requirement, SignedByRule, SigstoreRule } from './requirement.ts';
import { prepareSigstore } from './sigstore.ts';
import { loadSigningKeys, openSignedMessage } from './simple-signing.ts';
import { claimTypes, readClaim } from './signed-payload.ts';
import type { SignedClaim } from './signed-payload.ts';
import type { ImageSignature } from './stored-signatures.ts';

/** An image that the policy refuses. Clients see `SignatureValidationFailed` before its text. */
export class PolicyError extends CrioError {
  constructor(message: string) {
    super('failed-precondition', message);
    this.name = 'PolicyError';
  }
}

/** The requirements that decide, and where they stand in the file. */
export interface PolicyRule {
  readonly requirements: readonly Requirement[];
  /** `transport "docker", scope "quay.io/a"`, for people. */
  readonly place: string;
}

/** The most specific rule for an image of a registry. */
export function findPolicyRule(policy: Policy, reference: Reference): PolicyRule {
  const scopes = policy.transports.get('docker');
  for (const scope of policyScopes(reference)) {
    const requirements = scopes?.get(scope);
    if (requirements !== undefined)
      return { requirements, place: `transport "docker", scope ${JSON.stringify(scope)}` };
  }
  return { requirements: policy.default, place: 'default' };
}

/** What can be shown for an image: its manifest, the lists that led to it, and its signatures. */
export interface ImageEvidence {
  /** The manifest's digest first, then those of the lists that name it. */
  readonly digests: readonly Digest[];
  signatures(): Promise<readonly ImageSignature[]>;
}

/** Throws PolicyError when the policy refuses the image whatever it is; needs no network. */
export function checkRejected(policy: Policy, reference: Reference): void {
  const { requirements, place } = findPolicyRule(policy, reference);
  if (requirements.every(({ type }) => type !== 'reject')) return;
  // The first sentence is the text of the other container tools.
  throw new PolicyError(
    `Source image rejected: Running image ${imageName(reference)} is rejected by policy. ("${policy.path}", ${place})`,
  );
}

/** Throws PolicyError unless the image fulfils every requirement of the rule that decides. */
export async function checkPolicy(policy: Policy, reference: Reference, evidence: ImageEvidence): Promise<void> {
  checkRejected(policy, reference);
  const { requirements, place } = findPolicyRule(policy, reference);
  for (const requirement of requirements) {
    try {
      await checkRequirement(requirement, reference, evidence);
    } catch (error) {
      throw new PolicyError(
        `Source image rejected: ${messageOf(error)} (image ${imageName(reference)}, "${policy.path}", ${place}, requirement "${requirement.type}")`,
      );
    }
  }
}

async function checkRequirement(
  requirement: Requirement,
  reference: Reference,
  evidence: ImageEvidence,
): Promise<void> {
  switch (requirement.type) {
    case 'insecureAcceptAnything':
      return;
    case 'reject':
      throw new Error(`Running image ${imageName(reference)} is rejected by policy.`);
    case 'signedBaseLayer':
      throw new Error(noBaseLayer);
    case 'signedBy':
    case 'sigstoreSigned':
      await checkSignatures(requirement, reference, evidence);
  }
}

/** Throws when a requirement can never be met: its keys cannot be read, or it is not one that is. */
export async function checkRule(requirement: Requirement): Promise<void> {
  if (requirement.type === 'signedBy') await openSimple(requirement);
  if (requirement.type === 'sigstoreSigned') await openSigstore(requirement);
  if (requirement.type === 'signedBaseLayer') throw new Error(noBaseLayer);
}

// The other container tools read it and refuse every image, with this text.
const noBaseLayer = 'signedBaseLayer not implemented yet!';

/** One signature that is accepted is enough. */
async function checkSignatures(
  rule: SignedByRule | SigstoreRule,
  reference: Reference,
  evidence: ImageEvidence,
): Promise<void> {
  const open = rule.type === 'signedBy' ? await openSimple(rule) : await openSigstore(rule);
  const all = await evidence.signatures();
  const signatures = all.filter((signature) => Buffer.isBuffer(signature) === (rule.type === 'signedBy'));
  if (signatures.length === 0) throw new Error(`A signature was required, but no signature exists${others(rule, all)}`);
  const reasons: string[] = [];
  for (const signature of signatures) {
    const reason = await refusal(() => open(signature), rule.identity, { reference, digests: evidence.digests });
    if (reason === undefined) return;
    reasons.push(reason);
  }
  throw new Error(
    reasons.length === 1 ? reasons[0] : `None of the signatures were accepted, reasons: ${reasons.join('; ')}`,
  );
}

function others({ type }: SignedByRule | SigstoreRule, all: readonly ImageSignature[]): string {
  if (all.length === 0) return '';
  return ` (${all.length} ${type === 'signedBy' ? 'sigstore' : 'non-sigstore'} signatures)`;
}

/** What a signature claims, once it is known to be made by whom the rule trusts; throws when it is not. */
type OpenSignature = (signature: ImageSignature) => Promise<SignedClaim>;

async function openSimple(rule: SignedByRule): Promise<OpenSignature> {
  const keys = await loadSigningKeys(rule);
  return async (signature) => {
    if (!Buffer.isBuffer(signature)) throw new Error('not a simple signature');
    return readClaim(await openSignedMessage(signature, keys), claimTypes.simple);
  };
}

async function openSigstore(rule: SigstoreRule): Promise<OpenSignature> {
  const check = await prepareSigstore(rule);
  return async (signature) => {
    if (Buffer.isBuffer(signature)) throw new Error('not a sigstore signature');
    return readClaim(check(signature), claimTypes.sigstore);
  };
}

/** Why a signature does not count; undefined when it does. */
async function refusal(
  open: () => Promise<SignedClaim>,
  identity: SignedIdentity,
  image: { readonly reference: Reference; readonly digests: readonly Digest[] },
): Promise<string | undefined> {
  try {
    const claim = await open();
    if (!matchesIdentity(identity, image.reference, claim.reference)) {
      return `Signature for identity "${formatReference(claim.reference)}" is not accepted`;
    }
    if (!image.digests.includes(claim.digest))
      return `Signature for docker-manifest-digest ${claim.digest} is for another image`;
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

function imageName(reference: Reference): string {
  return `docker://${formatReference(reference)}`;
}
