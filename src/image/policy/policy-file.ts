import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CrioError, hasCode, wrap } from '../../base/errors.ts';
import { homeFolder } from '../home-folder.ts';
import { JsonReader, parseStrictJson } from '../json.ts';
import { namespaceFile } from '../namespace-file.ts';
import { allowKeys } from './identity.ts';
import { readRequirement } from './requirement.ts';
import type { Requirement } from './requirement.ts';

export interface Policy {
  readonly path: string;
  readonly default: readonly Requirement[];
  /** Transport name to scope to requirements; the scope `''` is the transport's default. */
  readonly transports: ReadonlyMap<string, ReadonlyMap<string, readonly Requirement[]>>;
}

/** Which policies the configuration names. */
export interface PolicyPaths {
  readonly signaturePolicy: string;
  readonly signaturePolicyDir: string;
}

type Env = Readonly<Record<string, string | undefined>>;

/** Where the system's policy may be; the first that exists is used. */
export function systemPolicyPaths(env: Env): readonly string[] {
  const own = join(homeFolder(env), '.config/containers/policy.json');
  return [own, '/etc/containers/policy.json', '/usr/share/containers/policy.json'];
}

/** The policy of the namespace, else the configured one, else the system's: the first that exists counts. */
export function policyFiles(image: PolicyPaths, namespace: string, system: readonly string[]): readonly string[] {
  const own = namespaceFile(image.signaturePolicyDir, namespace);
  return [...(own === undefined ? [] : [own]), ...(image.signaturePolicy === '' ? system : [image.signaturePolicy])];
}

/** As `policyFiles`, without the system's: what CRI-O checks again when a container is made. */
export function configuredPolicyFiles(image: PolicyPaths, namespace: string): readonly string[] {
  return policyFiles(image, namespace, []);
}

/** The one that counts of `configuredPolicyFiles`. Undefined when none is configured; one that is missing is an error, not none. */
export async function loadConfiguredPolicy(image: PolicyPaths, namespace: string): Promise<Policy | undefined> {
  if (image.signaturePolicy !== '') return loadPolicy(image, namespace, []);
  return findPolicy(configuredPolicyFiles(image, namespace));
}

/** The one that counts of `policyFiles`. Throws when there is none: without a policy nothing is accepted. */
export async function loadPolicy(image: PolicyPaths, namespace: string, system: readonly string[]): Promise<Policy> {
  const files = policyFiles(image, namespace, system);
  const policy = await findPolicy(files);
  if (policy !== undefined) return policy;
  const places = files.map((path) => `"${path}"`).join(', ');
  // One that was configured should come back, not be replaced by one that accepts everything.
  const hint = image.signaturePolicy === '' ? needed : '';
  throw new CrioError('failed-precondition', `read signature policy: no such file: ${places}${hint}`);
}

const needed = ' (one of them is needed; {"default":[{"type":"insecureAcceptAnything"}]} accepts every image)';

/** The first of these that exists; undefined for none. */
export async function findPolicy(paths: readonly string[]): Promise<Policy | undefined> {
  for (const path of paths) {
    const data = await readOptional(path);
    if (data !== undefined) return parsePolicy(data, path);
  }
  return undefined;
}

/** As strict as the format asks: an unknown key or one that stands twice makes the whole file invalid. */
export function parsePolicy(data: Uint8Array, path: string): Policy {
  const reader = new JsonReader(parseStrictJson(data, `policy "${path}"`), `policy "${path}"`);
  allowKeys(reader, ['default', 'transports']);
  const transports = new Map<string, ReadonlyMap<string, readonly Requirement[]>>();
  const transportsReader = reader.object('transports');
  for (const name of transportsReader?.keys ?? []) {
    const scopes = transportsReader?.object(name);
    if (scopes !== undefined)
      transports.set(name, new Map(scopes.keys.map((scope) => [scope, readRequirements(scopes, scope)])));
  }
  return { path, default: readRequirements(reader, 'default'), transports };
}

function readRequirements(reader: JsonReader, key: string): readonly Requirement[] {
  const where = `${reader.path}.${JSON.stringify(key)}`;
  const items = reader.array(key);
  if (items.length === 0) throw new CrioError('invalid', `${where}: list of policy requirements must not be empty`);
  return items.map((item, index) => readRequirement(item, `${where}[${index}]`));
}

async function readOptional(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw wrap(`read signature policy "${path}"`, error);
  }
}
