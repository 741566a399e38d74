import { homedir } from 'node:os';

/** Of the user that the program runs as, whose files for containers are below `.config/containers`. */
export function homeFolder(env: Readonly<Record<string, string | undefined>>): string {
  const given = env['HOME'] ?? '';
  return given === '' ? homedir() : given;
}
