import { env } from 'node:process';
import { CrioError, wrap } from '../../base/errors.ts';
import { run } from '../../sys/run.ts';
import { JsonReader, parseLooseJson } from '../json.ts';
import { anonymous } from './resolved-credentials.ts';
import type { ResolvedCredentials } from './resolved-credentials.ts';

const timeoutMs = 30_000;
const maxOutputBytes = 1024 * 1024;
/** What helpers print for a server they do not know; the protocol has no other way to say it. */
const notFoundText = 'credentials not found in native keychain';

/**
 * Asks `docker-credential-<name>` for a server's credentials, as docker-credential-helpers define it.
 * Undefined when it has none. Its output is never part of an error: it may hold the secret.
 */
export async function askHelper(
  name: string,
  server: string,
  signal: AbortSignal,
): Promise<ResolvedCredentials | undefined> {
  const program = `docker-credential-${name}`;
  if (!/^[\w.-]+$/.test(name)) throw new CrioError('invalid', `credential helper ${JSON.stringify(name)}: not a name`);
  let result;
  try {
    result = await run({
      file: program,
      args: ['get'],
      env: ownEnvironment(),
      input: server,
      output: 'pipe',
      maxOutputBytes,
      timeoutMs,
      signal,
    });
  } catch (error) {
    throw wrap(`run credential helper "${program}" for "${server}"`, error);
  }
  const output = result.stdout.toString('utf8');
  if (result.code !== 0) {
    if (output.includes(notFoundText) || output.includes('no credentials server URL')) return undefined;
    const why = result.timedOut
      ? `no answer within ${timeoutMs / 1000} s`
      : `exit status ${result.code ?? `signal ${result.signal}`}`;
    throw new CrioError('unknown', `run credential helper "${program}" for "${server}": ${why}`);
  }
  return readAnswer(result.stdout, `${program} for "${server}"`);
}

function readAnswer(data: Buffer, source: string): ResolvedCredentials {
  const reader = new JsonReader(parseLooseJson(data, source), source);
  const username = reader.string('Username') ?? '';
  const secret = reader.string('Secret') ?? '';
  if (username === '' && secret === '')
    return { ...anonymous, source: `no credentials: helper ${source} answered without any` };
  const base = { registryToken: '', source: `helper ${source}` };
  if (username === '<token>') return { ...base, username: '', password: '', identityToken: secret };
  return { ...base, username, password: secret, identityToken: '' };
}

function ownEnvironment(): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
}
