import { stat } from 'node:fs/promises';
import { CrioError, messageOf } from '../../base/errors.ts';
import { isJsonObject } from '../../base/go-json.ts';
import type { Logger } from '../../base/log.ts';
import { runPlugin } from './plugin.ts';
import { currentVersion } from './version.ts';

/** Which specification versions plugins support; one VERSION run per binary, again only when the file changed. */
export class PluginVersions {
  readonly #byFile = new Map<string, { key: string; versions: Promise<readonly string[]> }>();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  async of(file: string): Promise<readonly string[]> {
    const status = await stat(file, { bigint: true });
    const key = `${status.ino} ${status.size} ${status.mtimeNs}`;
    const known = this.#byFile.get(file);
    if (known?.key === key) return known.versions;
    const versions = askVersions(file, this.#log);
    this.#byFile.set(file, { key, versions });
    // A failure is not remembered: the next look asks again.
    versions.catch(() => this.#byFile.delete(file));
    return versions;
  }
}

const timeoutMs = 10_000;

async function askVersions(file: string, log: Logger): Promise<readonly string[]> {
  let output: string;
  try {
    output = await runPlugin({
      file,
      environment: { command: 'VERSION', containerId: '', netns: 'dummy', ifName: 'dummy', args: '', path: 'dummy' },
      stdin: JSON.stringify({ cniVersion: currentVersion }),
      timeoutMs,
      log,
    });
  } catch (error) {
    // Plugins from before the verb existed.
    if (messageOf(error) === 'unknown CNI_COMMAND: VERSION') return ['0.1.0'];
    throw error;
  }
  return parseVersions(output);
}

/** Reads the answer to VERSION; the list may only be missing for version 0.2.0. */
export function parseVersions(output: string): readonly string[] {
  let value: unknown;
  try {
    value = JSON.parse(output);
  } catch (error) {
    throw new CrioError('unknown', `decoding version info: ${messageOf(error)}`);
  }
  if (!isJsonObject(value) || typeof value['cniVersion'] !== 'string' || value['cniVersion'] === '') {
    throw new CrioError('unknown', 'decoding version info: missing field cniVersion');
  }
  const list = value['supportedVersions'];
  if (Array.isArray(list) && list.length > 0) return list.filter((item): item is string => typeof item === 'string');
  if (value['cniVersion'] === '0.2.0') return ['0.1.0', '0.2.0'];
  throw new CrioError('unknown', 'decoding version info: missing field supportedVersions');
}
