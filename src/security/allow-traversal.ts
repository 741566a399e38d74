import { chmod, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Lets root of a user namespace walk to `path`: every directory on the way that it does not own gets the search bits.
 * Their contents stay unlisted.
 */
export async function allowTraversal(
  path: string,
  owner: { readonly uid: number; readonly gid: number },
): Promise<void> {
  for (let directory = path; directory !== dirname(directory); directory = dirname(directory)) {
    const { mode, uid, gid } = await stat(directory);
    const isOwn = uid === owner.uid && gid === owner.gid;
    if (!isOwn && (mode & 0o111) !== 0o111) await chmod(directory, (mode & 0o7777) | 0o111);
  }
}
