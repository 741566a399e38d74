/** Lines of passwd(5) and group(5). What an image holds is hostile: a line that is not well formed does not exist. */

export interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

export interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** Largest user or group id: Kubernetes and the runtimes count in signed 32 bits, a larger one would wrap (CVE-2024-40635). */
export const maxId = 0x7fffffff;

/** `name:password:uid:gid:comment:home:shell`; the last three may be missing. */
export function parsePasswdLine(line: string): PasswdEntry | undefined {
  const [name = '', , uidText = '', gidText = ''] = line.trim().split(':');
  const uid = parseId(uidText);
  const gid = parseId(gidText);
  if (name === '' || name.startsWith('#') || uid === undefined || gid === undefined) return undefined;
  return { name, uid, gid };
}

/** `name:password:gid:member,member` */
export function parseGroupLine(line: string): GroupEntry | undefined {
  const [name = '', , gidText = '', members = ''] = line.trim().split(':');
  const gid = parseId(gidText);
  if (name === '' || name.startsWith('#') || gid === undefined) return undefined;
  return { name, gid, members: members.split(',').filter((member) => member !== '') };
}

/** A decimal id in range; undefined for anything else, `+1`, `0x1` and ` 1` included. */
export function parseId(text: string): number | undefined {
  if (!/^[0-9]{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id <= maxId ? id : undefined;
}
