import { CrioError } from '../../base/errors.ts';
import { formatReference, repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';
import type { Policy, Requirement } from './policy-file.ts';

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

/** Scopes from the image itself to the transport's default, as containers-policy.json(5) orders them. */
export function policyScopes(reference: Reference): readonly string[] {
  const scopes = [formatReference(reference)];
  let name = repositoryOf(reference);
  for (;;) {
    scopes.push(name);
    const slash = name.lastIndexOf('/');
    if (slash < 0) break;
    name = name.slice(0, slash);
  }
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.')) {
    name = name.slice(dot + 1);
    if (name === '') break;
    scopes.push(`*.${name}`);
  }
  return [...scopes, ''];
}

/** Throws PolicyError when the policy refuses the image, or asks for a proof that cannot be checked. */
export function checkPolicy(policy: Policy, reference: Reference): void {
  const { requirements, place } = findPolicyRule(policy, reference);
  const name = `docker://${formatReference(reference)}`;
  for (const { type } of requirements) {
    if (type === 'insecureAcceptAnything') continue;
    // The first sentence is the text of the other container tools.
    if (type === 'reject')
      throw new PolicyError(
        `Source image rejected: Running image ${name} is rejected by policy. ("${policy.path}", ${place})`,
      );
    throw new PolicyError(
      `Source image rejected: image ${name} needs "${type}" by policy ("${policy.path}", ${place}), which is not supported yet`,
    );
  }
}
