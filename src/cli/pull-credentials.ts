import { resolve } from 'node:path';
import { CrioError } from '../base/errors.ts';
import { flag, stringFlag } from '../config/flags.ts';
import type { CommandContext } from './command.ts';

/** An argument can be read by every user of the machine; these can not. */
const passwordVariable = 'CRIO_REGISTRY_PASSWORD';
const maxPassword = 64 * 1024;

export const credentialFlags = [
  flag({
    name: 'creds',
    usage: `USER[:PASSWORD] for the registry; without PASSWORD it is taken from $${passwordVariable} or standard input`,
  }),
  flag({ name: 'authfile', usage: 'file with credentials (containers-auth.json), instead of those configured' }),
];

/**
 * The headers that carry them to the daemon: `X-Registry-Auth` as in Docker's API, base64url of JSON, and the path of the
 * file, which the daemon reads.
 */
export async function credentialHeaders(context: CommandContext): Promise<Readonly<Record<string, string>>> {
  const creds = stringFlag(context.flags, 'creds') ?? '';
  const authFile = stringFlag(context.flags, 'authfile') ?? '';
  if (creds !== '' && authFile !== '') throw new CrioError('invalid', '--creds and --authfile exclude each other');
  if (authFile !== '') return { 'X-Registry-Auth-File': encodeURIComponent(resolve(authFile)) };
  if (creds === '') return {};
  const colon = creds.indexOf(':');
  const username = colon < 0 ? creds : creds.slice(0, colon);
  // The error must not repeat what may be the password.
  if (username === '') throw new CrioError('invalid', '--creds: expected USER[:PASSWORD]');
  const password = colon < 0 ? await askPassword(context) : creds.slice(colon + 1);
  const json = JSON.stringify({ username, password });
  return { 'X-Registry-Auth': Buffer.from(json).toString('base64url') };
}

async function askPassword({ host, input }: CommandContext): Promise<string> {
  const given = host.env[passwordVariable] ?? '';
  if (given !== '') return given;
  if (input.isTerminal)
    throw new CrioError('invalid', `--creds: no password: give it in $${passwordVariable} or on standard input`);
  let text = '';
  for await (const chunk of input.read()) {
    text += chunk;
    if (text.length > maxPassword) throw new CrioError('invalid', '--creds: the password is too long');
  }
  const password = text.replace(/\r?\n$/, '');
  if (password === '') throw new CrioError('invalid', '--creds: the password on standard input is empty');
  return password;
}
