import { messageOf } from '../../base/errors.ts';
import type { Config } from '../../config/config.ts';
import { fetchManifest } from '../fetch-image.ts';
import type { FetchedManifest } from '../fetch-image.ts';
import { toPlain } from '../json.ts';
import { formatReference } from '../reference.ts';
import type { Reference } from '../reference.ts';
import { pullSources } from '../registries-conf.ts';
import type { PullSource, RegistriesConf } from '../registries-conf.ts';
import type { Endpoints } from '../registry/endpoints.ts';
import type { Place } from '../registry/places.ts';
import { configuredMode, resolveName } from '../short-names.ts';
import { checkPolicy, checkRule, findPolicyRule } from './decide.ts';
import { fetchSignatures } from './fetch-signatures.ts';
import { shownUrl } from './lookaside.ts';
import { configuredPolicyFiles, findPolicy, policyFiles } from './policy-file.ts';
import type { Policy } from './policy-file.ts';
import { policyScopes } from './policy-scopes.ts';
import { findSignaturePlaces, loadRegistriesD } from './registries-d.ts';
import type { RegistriesD } from './registries-d.ts';
import type { Requirement } from './requirement.ts';

export type PolicySettings = Pick<Config['image'], 'signaturePolicy' | 'signaturePolicyDir' | 'shortNameMode'>;

export interface ExplainOptions {
  readonly image: PolicySettings;
  readonly name: string;
  readonly namespace: string;
  readonly registries: RegistriesConf;
  readonly systemPolicyFiles: readonly string[];
  /** Folders of containers-registries.d(5). */
  readonly registriesD: readonly string[];
  /** Asks the registry for the manifest and its signatures, and decides about them as a pull would. */
  readonly check?: CheckOptions;
}

export interface CheckOptions {
  readonly endpoints: Endpoints;
  readonly signal: AbortSignal;
  placesFor(reference: Reference): readonly Place[];
}

export interface Explanation {
  /** For people; lines. */
  readonly text: string;
  /** True when it is sure that none of the names would be accepted. */
  readonly isRefused: boolean;
}

/** Which file, scope and requirements decide about each image that a name may stand for, and what they decide. */
export async function explainPolicy(options: ExplainOptions): Promise<Explanation> {
  const { image, namespace, registries } = options;
  const name = options.name.replace(/^docker:\/\//, '');
  const references = resolveName(registries, configuredMode(image.shortNameMode), name);
  const files = policyFiles(image, namespace, options.systemPolicyFiles);
  const policy = await readPolicy(files);
  const signatures = await loadRegistriesD(options.registriesD);
  const parts: Explanation[] = [];
  for (const reference of references)
    parts.push(await explainOne(reference, { ...options, policy, files, signatures }));
  return { text: parts.map(({ text }) => text).join('\n'), isRefused: parts.every(({ isRefused }) => isRefused) };
}

interface Known extends ExplainOptions {
  /** The text of what is wrong with it, when it cannot be read; undefined when there is none. */
  readonly policy: Policy | string | undefined;
  readonly files: readonly string[];
  readonly signatures: RegistriesD;
}

async function readPolicy(files: readonly string[]): Promise<Policy | string | undefined> {
  return findPolicy(files).catch(messageOf);
}

async function explainOne(reference: Reference, known: Known): Promise<Explanation> {
  const { policy, files } = known;
  const image = `image: docker://${formatReference(reference)}`;
  if (policy === undefined) return refused([image], `no policy file, looked for ${files.join(', ')}`);
  if (typeof policy === 'string') return refused([image], policy);
  const { requirements, place } = findPolicyRule(policy, reference);
  const lines = [
    image,
    `policy file: ${policy.path} (first that exists of ${files.join(', ')})`,
    `rule: ${place} (first that exists of ${scopeList(reference)})`,
    ...requirements.map((requirement) => `  ${explainRequirement(requirement)}`),
    againLine(policy, known),
  ];
  let sources: readonly PullSource[];
  try {
    sources = pullSources(known.registries, reference);
  } catch (error) {
    return refused(lines, messageOf(error));
  }
  if (needsSignatures(requirements)) lines.push(...sources.map((source) => signatureLine(known.signatures, source)));
  if (requirements.some(({ type }) => type === 'reject'))
    return refused(lines, 'whatever it is, by the requirement "reject"');
  try {
    for (const requirement of requirements) await checkRule(requirement);
  } catch (error) {
    return refused(lines, messageOf(error));
  }
  return known.check === undefined
    ? unchecked(lines, requirements)
    : check(lines, { ...known, policy, reference }, known.check);
}

/** What the rule alone says; signatures are not looked at. */
function unchecked(lines: readonly string[], requirements: readonly Requirement[]): Explanation {
  const isAnything = requirements.every(({ type }) => type === 'insecureAcceptAnything');
  const result = isAnything ? 'accepted, whatever it is' : 'accepted when it meets every requirement above';
  return { text: join([...lines, `result: ${result}`]), isRefused: false };
}

async function check(
  lines: readonly string[],
  known: Known & { readonly policy: Policy; readonly reference: Reference },
  options: CheckOptions,
): Promise<Explanation> {
  const { endpoints, signal } = options;
  const { policy, reference, signatures: config } = known;
  const found: string[] = [];
  let image: FetchedManifest;
  try {
    image = await fetchManifest(reference, options.placesFor(reference), signal);
  } catch (error) {
    return { text: join([...lines, `result: not decided: ${messageOf(error)}`]), isRefused: true };
  }
  try {
    found.push(`manifest: ${image.digest} from ${image.places[0]?.describe() ?? ''}`);
    await checkPolicy(policy, reference, {
      digests: [image.digest],
      async signatures() {
        const signatures = [...(await fetchSignatures(image, { config, endpoints, signal })).values()].flat();
        found.push(`signatures found: ${signatures.length}`);
        return signatures;
      },
    });
  } catch (error) {
    return refused([...lines, ...new Set(found)], messageOf(error));
  }
  return { text: join([...lines, ...new Set(found), 'result: accepted']), isRefused: false };
}

function refused(lines: readonly string[], why: string): Explanation {
  return { text: join([...lines, `result: refused: ${why}`]), isRefused: true };
}

function join(all: readonly string[]): string {
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

/** The system's policy counts for pulls only. */
function againLine({ path }: Policy, { image, namespace }: ExplainOptions): string {
  const isConfigured = configuredPolicyFiles(image, namespace).includes(path);
  return `when a container is created: ${isConfigured ? 'checked again' : "not checked again (the system's policy)"}`;
}

function needsSignatures(requirements: readonly Requirement[]): boolean {
  return requirements.some(({ type }) => type === 'signedBy' || type === 'sigstoreSigned');
}

function signatureLine(config: RegistriesD, { reference, isMirror }: PullSource): string {
  const { lookaside, useSigstoreAttachments } = findSignaturePlaces(config, reference);
  const attached = useSigstoreAttachments ? 'looked for' : 'not looked for (use-sigstore-attachments is off)';
  return `signatures of ${formatReference(reference)}${isMirror ? ' (mirror)' : ''}: lookaside ${URL.canParse(lookaside) ? shownUrl(new URL(lookaside)) : 'no URL'}; attached in the registry: ${attached}`;
}
