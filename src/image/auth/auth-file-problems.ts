import { messageOf } from '../../base/errors.ts';
import { readAuthFile } from './auth-file.ts';
import type { AuthFileSettings } from './configured-auth-file.ts';

export type ConfiguredAuthFiles = Pick<AuthFileSettings, 'globalAuthFile' | 'pauseImageAuthFile'>;

/** What is wrong with the configured auth files, one line each; never throws. Entries are read by the pulls that they are for. */
export async function authFileProblems(image: ConfiguredAuthFiles): Promise<readonly string[]> {
  const options = [
    ['global_auth_file', image.globalAuthFile],
    ['pause_image_auth_file', image.pauseImageAuthFile],
  ] as const;
  const problems = await Promise.all(
    options.filter(([, path]) => path !== '').map(([option, path]) => problemOf(path, option)),
  );
  return problems.filter((problem) => problem !== undefined);
}

async function problemOf(path: string, option: string): Promise<string | undefined> {
  try {
    const file = await readAuthFile(path);
    if (file === undefined) return `${option}: no such file "${path}": pulls have no credentials`;
    if (!file.isForeign) return undefined;
    return `${option}: "${path}" has no credentials: none of "auths", "credHelpers" and "credsStore" is in it`;
  } catch (error) {
    return `${option}: no image can be pulled with it: ${messageOf(error)}`;
  }
}
