import { chmod, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Search permission for everybody: enough to reach what lies below by its name, not to list it. */
const search = 0o111;

/**
 * Lets the mapped root of a user namespace reach these paths: every directory on the way that it does not own gets
 * search permission, as CRI-O does it.
 */
export async function openToUser(paths: readonly string[], uid: number): Promise<void> {
  const seen = new Set<string>();
  for (const path of paths) {
    for (let directory = path; !seen.has(directory); directory = dirname(directory)) {
      seen.add(directory);
      const stats = await stat(directory);
      const mode = stats.mode & 0o7777;
      if (stats.uid !== uid && (mode & search) !== search) await chmod(directory, mode | search);
    }
  }
}
