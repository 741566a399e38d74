import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CrioError, hasCode } from '../../base/errors.ts';
import { isJsonObject } from '../../base/go-json.ts';
import type { Logger } from '../../base/log.ts';
import { run } from '../../sys/run.ts';

export type Verb = 'ADD' | 'CHECK' | 'DEL' | 'GC' | 'STATUS' | 'VERSION';

/** The CNI_ variables of one run; specification section 2. */
export interface PluginEnvironment {
  readonly command: Verb;
  readonly containerId: string;
  readonly netns: string;
  readonly ifName: string;
  /** `K=V;K=V` */
  readonly args: string;
  /** Plugin directories joined by `:` */
  readonly path: string;
}

export interface PluginRun {
  readonly file: string;
  readonly environment: PluginEnvironment;
  readonly stdin: string;
  /** The plugin is killed then. */
  readonly timeoutMs: number;
  readonly log: Logger;
}

/** More than any result; what comes after is cut, and then it is no JSON. */
const maxOutputBytes = 4 << 20;
const busyRetries = 5;
const busyRetryMs = 1000;

/** Runs a plugin once and returns what it printed. Throws the plugin's own error text. */
export async function runPlugin(plugin: PluginRun): Promise<string> {
  const result = await runWhenNotBusy(plugin);
  const stdout = result.stdout.toString('utf8');
  const stderr = result.stderr.toString('utf8');
  if (result.code === 0) {
    if (stderr !== '')
      plugin.log.info(() => `CNI plugin ${plugin.file} (${plugin.environment.command}): ${stderr.trimEnd()}`);
    return stdout;
  }
  throw new CrioError('unknown', pluginErrorText(stdout, stderr, describeEnd(result)));
}

/** The text CRI-O's CNI library makes of a failed run. */
export function pluginErrorText(stdout: string, stderr: string, end: string): string {
  if (stdout === '') {
    return stderr === ''
      ? `netplugin failed with no error message: ${end}`
      : `netplugin failed: ${JSON.stringify(stderr)}`;
  }
  let value: unknown;
  try {
    value = JSON.parse(stdout);
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    return `netplugin failed but error parsing its diagnostic message ${JSON.stringify(stdout)}: ${cause}`;
  }
  const message = isJsonObject(value) && typeof value['msg'] === 'string' ? value['msg'] : '';
  const details = isJsonObject(value) && typeof value['details'] === 'string' ? value['details'] : '';
  return details === '' ? message : `${message}; ${details}`;
}

/** First regular file `<dir>/<type>`; the execute bit is not looked at. */
export async function findPlugin(type: string, pluginDirs: readonly string[]): Promise<string> {
  if (type === '') throw new CrioError('invalid', 'no plugin name provided');
  // A slash would let a configuration name any program (CVE-2021-20206).
  if (type.includes('/')) throw new CrioError('invalid', `invalid plugin name: ${type}`);
  for (const directory of pluginDirs) {
    const file = join(directory, type);
    if (await isRegularFile(file)) return file;
  }
  throw new CrioError('not-found', `failed to find plugin "${type}" in path [${pluginDirs.join(' ')}]`);
}

async function isRegularFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES')) return false;
    throw error;
  }
}

/** A binary that is being replaced right now cannot be executed for a moment. */
async function runWhenNotBusy(plugin: PluginRun): ReturnType<typeof run> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await run({
        file: plugin.file,
        args: [],
        env: pluginVariables(plugin.environment, process.env),
        input: plugin.stdin,
        timeoutMs: plugin.timeoutMs,
        output: 'pipe',
        maxOutputBytes,
      });
    } catch (error) {
      if (!hasCode(error, 'ETXTBSY') || attempt === busyRetries) throw error;
      await new Promise((resolve) => setTimeout(resolve, busyRetryMs));
    }
  }
}

/** The daemon's whole environment with the CNI_ variables set. */
export function pluginVariables(
  environment: PluginEnvironment,
  inherited: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const [key, value] of Object.entries(inherited)) if (value !== undefined) variables[key] = value;
  return {
    ...variables,
    CNI_COMMAND: environment.command,
    CNI_CONTAINERID: environment.containerId,
    CNI_NETNS: environment.netns,
    CNI_IFNAME: environment.ifName,
    CNI_ARGS: environment.args,
    CNI_PATH: environment.path,
  };
}

function describeEnd(result: { code: number | undefined; signal: number | undefined }): string {
  if (result.signal === 9) return 'signal: killed';
  return result.signal === undefined ? `exit status ${result.code ?? -1}` : `signal: ${result.signal}`;
}
