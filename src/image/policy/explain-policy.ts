import { env } from 'node:process';
import type { Config } from '../../config/config.ts';
import { toPlain } from '../json.ts';
import { formatReference } from '../reference.ts';
import type { Reference } from '../reference.ts';
import { loadRegistriesConf, registriesPaths } from '../registries-file.ts';
import { resolveName } from '../short-names.ts';
import { findPolicyRule, policyScopes } from './decide.ts';
import { findPolicy, policyFiles, systemPolicyPaths } from './policy-file.ts';
import type { Policy } from './policy-file.ts';
import { findSignaturePlaces, loadRegistriesD } from './registries-d.ts';
import type { RegistriesD } from './registries-d.ts';
import type { Requirement } from './requirement.ts';

export interface ExplainOptions {
  readonly image: Pick<Config['image'], 'signaturePolicy' | 'signaturePolicyDir' | 'shortNameMode'>;
  readonly name: string;
  readonly namespace: string;
  /** Values of the flags `--registries-conf` and `--registries-conf-dir`. */
  readonly registries?: { readonly file?: string; readonly dropInDir?: string };
  /** Folder of containers-registries.d(5). */
  readonly registriesD?: string;
}

/** Which file, scope and requirements decide about an image, as text for people. Reads the files; needs no daemon. */
export async function explainPolicyText(options: ExplainOptions): Promise<string> {
  const { image, namespace } = options;
  const registries = await loadRegistriesConf(registriesPaths(env, options.registries));
  const { shortNameMode } = image;
  const mode = shortNameMode === 'disabled' || shortNameMode === 'enforcing' ? shortNameMode : undefined;
  const references = resolveName(registries, mode, options.name.replace(/^docker:\/\//, ''));
  const files = policyFiles(image, namespace, systemPolicyPaths(env));
  const policy = await findPolicy(files);
  const places = await loadRegistriesD(options.registriesD ?? '/etc/containers/registries.d');
  return references.map((reference) => explainOne(reference, { policy, files, places })).join('\n');
}

interface Known {
  readonly policy: Policy | undefined;
  readonly files: readonly string[];
  readonly places: RegistriesD;
}

function explainOne(reference: Reference, { policy, files, places }: Known): string {
  const head = [`image: docker://${formatReference(reference)}`];
  if (policy === undefined) return lines([...head, `refused: no policy file, looked for ${files.join(', ')}`]);
  const { requirements, place } = findPolicyRule(policy, reference);
  return lines([
    ...head,
    `policy file: ${policy.path} (first that exists of ${files.join(', ')})`,
    `rule: ${place} (first that exists of ${scopeList(reference)})`,
    ...requirements.map((requirement) => `  ${explainRequirement(requirement)}`),
    ...(needsSignatures(requirements) ? signatureLines(places, reference) : []),
    `result: ${verdict(requirements)}`,
  ]);
}

function lines(all: readonly string[]): string {
  return `${all.join('\n')}\n`;
}

function scopeList(reference: Reference): string {
  return [...policyScopes(reference).map((scope) => JSON.stringify(scope)), 'default'].join(', ');
}

function explainRequirement({ type, fields }: Requirement): string {
  const details = [...fields].filter(([key]) => key !== 'type');
  return [type, ...details.map(([key, value]) => `${key}=${shorten(JSON.stringify(toPlain(value)))}`)].join(' ');
}

/** Key data are long and mean nothing to people. */
function shorten(text: string): string {
  return text.length <= 100 ? text : `${text.slice(0, 80)}... (${text.length} characters)`;
}

function needsSignatures(requirements: readonly Requirement[]): boolean {
  return requirements.some(({ type }) => type === 'signedBy' || type === 'sigstoreSigned');
}

function signatureLines(places: RegistriesD, reference: Reference): readonly string[] {
  const { lookaside, useSigstoreAttachments } = findSignaturePlaces(places, reference);
  return [
    `signatures: lookaside ${lookaside ?? 'none'}; attached in the registry: ${useSigstoreAttachments ? 'looked for' : 'not looked for (use-sigstore-attachments is off)'}`,
  ];
}

function verdict(requirements: readonly Requirement[]): string {
  if (requirements.some(({ type }) => type === 'reject')) return 'refused, whatever it is';
  if (requirements.every(({ type }) => type === 'insecureAcceptAnything')) return 'accepted, whatever it is';
  return 'accepted when it meets every requirement above';
}
