import { messageOf, hasCode } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { mountSetattr } from '../sys/mount.ts';
import { run } from '../sys/run.ts';
import type { RuntimeFeatures } from './runtime.ts';

const askLimitMs = 10_000;
/** What CRI-O writes. */
const newestOciVersion = '1.3.0';
/** The only one that every crun accepts. */
const oldestOciVersion = '1.0.2';

/** Asks a runtime for its version and abilities; what it does not answer is logged and taken as not there. */
export async function detectFeatures(path: string, log: Logger): Promise<RuntimeFeatures> {
  const [version, features] = await Promise.all([ask(path, '--version', log), ask(path, 'features', log)]);
  const firstLine = version?.split('\n')[0]?.trim() ?? '';
  log.debug(() => `runtime "${path}": ${version?.trim().replaceAll('\n', ', ') ?? 'no version'}`);
  const abilities = parseFeatures(features ?? '');
  return {
    version: firstLine,
    ociVersion: chooseOciVersion(firstLine),
    recursiveReadOnlyMounts: abilities.mountOptions.includes('rro') && hasMountSetattr(),
    idmapMounts: abilities.idmapMounts,
  };
}

/** The daemon's whole environment, as CRI-O does; both outputs, since warnings may come before the answer. */
async function ask(path: string, verb: string, log: Logger): Promise<string | undefined> {
  try {
    const env: Record<string, string> = {};
    for (const [key, value] of Object.entries(process.env)) if (value !== undefined) env[key] = value;
    const result = await run({ file: path, args: [verb], env, timeoutMs: askLimitMs });
    if (result.code === 0) return `${result.stdout}${result.stderr}`;
    log.debug(() => `${path} ${verb}: ${result.stderr.toString().trim()}`);
  } catch (error) {
    log.warn(`${path} ${verb}: ${messageOf(error)}`);
  }
  return undefined;
}

/**
 * The ociVersion to write into config.json. crun before 1.14.3 refuses all but 1.0 and 1.1; every other runtime takes
 * any version, and gets the one that CRI-O writes.
 */
export function chooseOciVersion(versionLine: string): string {
  const match = /^crun version (\d+)\.(\d+)(?:\.(\d+))?/.exec(versionLine);
  if (match === null) return newestOciVersion;
  const [major = 0, minor = 0, patch = 0] = match.slice(1).map((part) => Number(part ?? 0));
  const isOld = major < 1 || (major === 1 && (minor < 14 || (minor === 14 && patch < 3)));
  return isOld ? oldestOciVersion : newestOciVersion;
}

/** The features document; an unusable one has no features. */
export function parseFeatures(text: string): { mountOptions: readonly string[]; idmapMounts: boolean } {
  const none = { mountOptions: [], idmapMounts: false };
  const start = text.indexOf('{');
  const end = text.lastIndexOf('}');
  if (start < 0 || end < start) return none;
  let document: unknown;
  try {
    document = JSON.parse(text.slice(start, end + 1));
  } catch {
    return none;
  }
  if (!isText(member(document, 'ociVersionMin')) || !isText(member(document, 'ociVersionMax'))) return none;
  const options = member(document, 'mountOptions');
  const idmap = member(member(member(member(document, 'linux'), 'mountExtensions'), 'idmap'), 'enabled');
  return {
    mountOptions: Array.isArray(options) ? options.filter((option) => typeof option === 'string') : [],
    idmapMounts: idmap === true,
  };
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== '';
}

function member(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
  return new Map<string, unknown>(Object.entries(value)).get(name);
}

/** mount_setattr(2) with AT_RECURSIVE came with Linux 5.12; a change of nothing shows whether it is there. */
function hasMountSetattr(): boolean {
  try {
    mountSetattr(undefined, '/', { recursive: true });
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOSYS', 'EPERM', 'EINVAL')) return false;
    throw error;
  }
}
