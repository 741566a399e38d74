import { closeSync, fchmodSync, fchownSync, openSync, writeFileSync } from 'node:fs';
import { CrioError } from '../base/errors.ts';
import type { IdMapping } from '../pod/config.ts';
import type { Mount } from '../runtime/spec/oci.ts';
import { hostId } from './host-id.ts';
import { openRegularInRoot, readChunks, type RootFile } from './read-in-root.ts';
import type { UserLookup } from './users.ts';

export interface UserFilesRequest {
  readonly rootFd: number;
  readonly bundle: string;
  readonly user: UserLookup;
  /** HOME of the container's environment, undefined when not set. */
  readonly home: string | undefined;
  readonly uidMap: readonly IdMapping[];
}

/**
 * Copies of the image's passwd and group with a line for the container's user or group, when it has none: many programs
 * want a name for their own id. Returns the mounts that put them over the originals.
 */
export async function makeUserFiles(request: UserFilesRequest): Promise<Mount[]> {
  const { user } = request;
  const home = checkHome(request.home);
  const mounts: Mount[] = [];
  if (!user.uidHasEntry) {
    const name = user.userText;
    const line = `${name}:x:${user.uid}:${user.gid}:${name} user:${home}:/sbin/nologin\n`;
    mounts.push(...(await addLine(request, 'passwd', line)));
  }
  if (!user.gidHasEntry) mounts.push(...(await addLine(request, 'group', `${user.gid}:x:${user.gid}:\n`)));
  return mounts;
}

/**
 * A line end in HOME would be a second line of passwd: an account of the attacker's choice (CVE-2022-4318, CVE-2026-15809).
 * A colon would shift the fields.
 */
export function checkHome(home: string | undefined): string {
  if (home === undefined || home === '') return '/';
  // CRI-O's text
  if (/[\n\r\u0085\u2028\u2029]/.test(home))
    throw new CrioError('invalid', 'invalid HOME environment; newline not allowed');
  return /[\u0000-\u001f\u007f:]/.test(home) ? '/' : home;
}

async function addLine(request: UserFilesRequest, name: 'passwd' | 'group', line: string): Promise<Mount[]> {
  using original = openRegularInRoot(request.rootFd, `/etc/${name}`);
  if (original === undefined || original.stat.size === 0) return [];
  if (isWritableBy(original, request.user.uid, request.uidMap)) return [];
  const copy = `${request.bundle}/${name}`;
  await writeCopy(original, copy, line);
  return [
    { destination: `/etc/${name}`, type: 'bind', source: copy, options: ['rw', 'bind', 'nodev', 'nosuid', 'noexec'] },
  ];
}

/** An image that lets its user write the file manages its entries itself. */
function isWritableBy({ stat }: RootFile, uid: number, uidMap: readonly IdMapping[]): boolean {
  const isOwner = stat.uid === hostId(uid, uidMap);
  return (stat.mode & 0o022) !== 0 || (isOwner && (stat.mode & 0o200) !== 0);
}

/**
 * Same mode and owner as the original; `wx` because the bundle is new and nothing may stand there. The bundle lies in
 * memory, so that writing does not wait.
 */
async function writeCopy(original: RootFile, path: string, line: string): Promise<void> {
  const copy = openSync(path, 'wx', 0o600);
  try {
    let last = '\n';
    for await (const chunk of readChunks(original)) {
      writeFileSync(copy, chunk);
      last = String.fromCharCode(chunk.at(-1) ?? 0);
    }
    writeFileSync(copy, last === '\n' ? line : `\n${line}`);
    fchownSync(copy, original.stat.uid, original.stat.gid);
    fchmodSync(copy, original.stat.mode & 0o7777);
  } finally {
    closeSync(copy);
  }
}
