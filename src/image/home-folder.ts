import { userInfo } from 'node:os';
import { join } from 'node:path';

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Of the user that the program runs as, whose files for containers are below `.config/containers`. A service may be started
 * without HOME; as with the other container tools, it is the one of passwd(5) then.
 */
export function homeFolder(env: Env): string {
  const given = env['HOME'] ?? '';
  return given === '' ? userInfo().homedir : given;
}

/** XDG_CONFIG_HOME, else `.config` there. Not all files of the container tools heed it. */
export function configHome(env: Env): string {
  const given = env['XDG_CONFIG_HOME'] ?? '';
  return given === '' ? join(homeFolder(env), '.config') : given;
}
