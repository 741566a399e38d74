import { CrioError } from '../base/errors.ts';
import type { ContainerSecurityContext } from '../container/config.ts';
import type { ResolvedUser } from '../runtime/spec/input.ts';
import { type GroupEntry, maxId, parseGroupLine, parseId, parsePasswdLine, type PasswdEntry } from './passwd-file.ts';
import { openRegularInRoot, readLines } from './read-in-root.ts';

/** Most supplementary groups a process can have, NGROUPS_MAX of setgroups(2). */
const maxGroups = 65536;

export interface UserRequest {
  /** Descriptor of the root file system's top directory. */
  readonly rootFd: number;
  readonly context: ContainerSecurityContext | undefined;
  /** `user[:group]` of the image, `` when none */
  readonly imageUser: string;
}

export interface UserLookup extends ResolvedUser {
  /** User part of the string that was looked up, `default` when there was none. */
  readonly userText: string;
  readonly uidHasEntry: boolean;
  readonly gidHasEntry: boolean;
}

/**
 * The user a container runs as: username, else uid of the request, else the image's user, looked up in the image's own
 * /etc/passwd and /etc/group. A number is never taken for a name, whatever those files say (CVE-2026-46680).
 */
export async function resolveUser(request: UserRequest): Promise<UserLookup> {
  const wanted = wantedUser(request.context, request.imageUser);
  const user = await findUser(request.rootFd, wanted.user);
  const groups = await findGroups(request.rootFd, {
    name: user.entry?.name,
    group: wanted.group,
    gid: user.gid,
    wantedGid: request.context?.runAsGroup,
  });
  const gid = request.context?.runAsGroup ?? groups.gid;
  const asked = request.context?.supplementalGroups ?? [];
  for (const id of [gid, ...asked]) requireId('group', id);
  const listed = request.context?.supplementalGroupsPolicy === 'strict' ? [] : groups.memberOf;
  return {
    uid: user.uid,
    gid,
    additionalGids: [...new Set([gid, ...listed, ...asked])],
    userText: wanted.user === '' ? 'default' : wanted.user,
    uidHasEntry: user.entry !== undefined,
    gidHasEntry: groups.known.has(gid),
  };
}

interface WantedUser {
  readonly user: string;
  readonly group: string;
}

function wantedUser(context: ContainerSecurityContext | undefined, imageUser: string): WantedUser {
  // without a security context a container is root, whatever the image says
  if (context === undefined) return { user: '0', group: '0' };
  if (context.runAsGroup !== undefined && context.runAsUser === undefined && context.runAsUsername === '') {
    // CRI-O's text
    throw new CrioError('invalid', 'user group is specified without user or username');
  }
  if (context.runAsUsername !== '') return { user: context.runAsUsername, group: '' };
  if (context.runAsUser !== undefined) return { user: String(requireId('user', context.runAsUser)), group: '' };
  const [user = '', group = ''] = imageUser.split(':', 2);
  return { user, group };
}

async function findUser(
  rootFd: number,
  text: string,
): Promise<{ uid: number; gid: number; entry: PasswdEntry | undefined }> {
  const uid = text === '' ? 0 : numericId('user', text);
  const entry = await findPasswd(rootFd, (other) => (uid === undefined ? other.name === text : other.uid === uid));
  if (entry !== undefined) return { uid: entry.uid, gid: entry.gid, entry };
  if (uid === undefined)
    throw new CrioError('invalid', `unable to find user ${text}: no matching entries in passwd file`);
  return { uid, gid: 0, entry };
}

async function findPasswd(rootFd: number, matches: (entry: PasswdEntry) => boolean): Promise<PasswdEntry | undefined> {
  using file = openRegularInRoot(rootFd, '/etc/passwd');
  if (file === undefined) return undefined;
  for await (const lines of readLines(file)) {
    for (const line of lines) {
      const entry = parsePasswdLine(line);
      if (entry !== undefined && matches(entry)) return entry;
    }
  }
  return undefined;
}

interface GroupSearch {
  /** Name of the user, undefined without an entry. */
  readonly name: string | undefined;
  /** Group part of `user:group`, `` when none. */
  readonly group: string;
  /** Primary group of the user. */
  readonly gid: number;
  /** Group of the request, which replaces the one found. */
  readonly wantedGid: number | undefined;
}

interface GroupsFound {
  readonly gid: number;
  readonly memberOf: readonly number[];
  /** Those of the found and the wanted group that have an entry. */
  readonly known: ReadonlySet<number>;
}

async function findGroups(rootFd: number, search: GroupSearch): Promise<GroupsFound> {
  let gid = search.group === '' ? search.gid : numericId('group', search.group);
  const memberOf: number[] = [];
  const known = new Set<number>();
  await eachGroup(rootFd, (entry) => {
    if (gid === undefined && entry.name === search.group) gid = entry.gid;
    if (entry.gid === gid || entry.gid === search.wantedGid) known.add(entry.gid);
    if (search.name === undefined || !entry.members.includes(search.name)) return;
    memberOf.push(entry.gid);
    if (memberOf.length > maxGroups)
      throw new CrioError('invalid', `user ${search.name} is in more than ${maxGroups} groups`);
  });
  if (gid === undefined)
    throw new CrioError('invalid', `unable to find group ${search.group}: no matching entries in group file`);
  return { gid, memberOf, known };
}

async function eachGroup(rootFd: number, visit: (entry: GroupEntry) => void): Promise<void> {
  using file = openRegularInRoot(rootFd, '/etc/group');
  if (file === undefined) return;
  for await (const lines of readLines(file)) {
    for (const line of lines) {
      const entry = parseGroupLine(line);
      if (entry !== undefined) visit(entry);
    }
  }
}

/** Undefined for a name. Digits alone are a number, in range or an error. */
function numericId(what: string, text: string): number | undefined {
  if (!/^[0-9]+$/.test(text)) return undefined;
  const id = parseId(text);
  if (id === undefined) throw new CrioError('invalid', `${what} id "${text}" is out of range 0-${maxId}`);
  return id;
}

function requireId(what: string, id: number): number {
  if (Number.isInteger(id) && id >= 0 && id <= maxId) return id;
  throw new CrioError('invalid', `${what} id "${id}" is out of range 0-${maxId}`);
}
