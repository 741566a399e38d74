import { CrioError } from '../base/errors.ts';

/** Parsers for list entries that have a form of their own. All throw CrioError `invalid` with the entry in the text. */

export interface Ulimit {
  /** As in the OCI spec: `RLIMIT_NOFILE` */
  readonly type: string;
  /** -1: no limit */
  readonly soft: number;
  readonly hard: number;
}

const ulimitNames = new Set(
  'core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(' '),
);

/** `name=soft[:hard]` */
export function parseUlimit(entry: string): Ulimit {
  const match = /^([^=]*)=(-?\d+)(?::(-?\d+))?$/.exec(entry);
  if (match === null) throw invalid('ulimit', entry, 'expected name=soft[:hard] with integers');
  const [, name = '', softText = '', hardText = softText] = match;
  if (!ulimitNames.has(name)) throw invalid('ulimit', entry, `unknown name "${name}"`);
  const soft = Number(softText);
  const hard = Number(hardText);
  if (soft < -1 || hard < -1) throw invalid('ulimit', entry, 'a limit is -1 or more');
  if (hard !== -1 && (soft > hard || soft === -1))
    throw invalid('ulimit', entry, 'the soft limit is above the hard one');
  return { type: `RLIMIT_${name.toUpperCase()}`, soft, hard };
}

export interface DeviceEntry {
  readonly hostPath: string;
  readonly containerPath: string;
  readonly permissions: string;
}

/** `host[:container][:permissions]`; permissions are some of r, w, m (default rwm), the container path lies under /dev. */
export function parseDevice(entry: string): DeviceEntry {
  const [hostPath = '', second, third, ...more] = entry.split(':');
  if (more.length > 0) throw invalid('device', entry, 'expected host[:container][:permissions]');
  const secondIsPermissions = second !== undefined && third === undefined && isPermissions(second);
  const containerPath = second === undefined || secondIsPermissions ? hostPath : second;
  const permissions = (secondIsPermissions ? second : third) ?? 'rwm';
  if (!hostPath.startsWith('/dev/')) throw invalid('device', entry, 'the path on the host is not under /dev');
  if (!containerPath.startsWith('/dev/')) throw invalid('device', entry, 'the path in the container is not under /dev');
  if (!isPermissions(permissions)) throw invalid('device', entry, `invalid permissions "${permissions}"`);
  return { hostPath, containerPath, permissions };
}

function isPermissions(text: string): boolean {
  return /^[rwm]{1,3}$/.test(text) && new Set(text).size === text.length;
}

/** `key=value` without white space around either; an empty entry is ignored. */
export function parseSysctls(entries: readonly string[]): ReadonlyMap<string, string> {
  const result = new Map<string, string>();
  for (const entry of entries) {
    if (entry === '') continue;
    const equals = entry.indexOf('=');
    if (equals < 0) throw invalid('sysctl', entry, 'expected key=value');
    const key = entry.slice(0, equals);
    const value = entry.slice(equals + 1);
    if (key !== key.trim() || value !== value.trim()) throw invalid('sysctl', entry, 'white space around key or value');
    result.set(key, value);
  }
  return result;
}

/** CPU numbers of a list such as `0-3,7`; empty text is the empty set. */
export function parseCpuset(text: string): ReadonlySet<number> {
  const cpus = new Set<number>();
  for (const range of text === '' ? [] : text.split(',')) {
    const match = /^\s*(\d{1,6})(?:-(\d{1,6}))?\s*$/.exec(range);
    const first = Number(match?.[1]);
    const last = match?.[2] === undefined ? first : Number(match[2]);
    if (match === null || last < first) throw invalid('cpuset', text, `invalid range "${range}"`);
    for (let cpu = first; cpu <= last; cpu++) cpus.add(cpu);
  }
  return cpus;
}

const capabilities = new Set(
  (
    'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE ' +
    'NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN ' +
    'SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE ' +
    'MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
  ).split(' '),
);

/** The name with its prefix, `CAP_CHOWN`; any case, with or without the prefix. */
export function parseCapability(name: string): string {
  const bare = name.toUpperCase().replace(/^CAP_/, '');
  if (!capabilities.has(bare)) throw invalid('capability', name, 'unknown');
  return `CAP_${bare}`;
}

function invalid(what: string, entry: string, problem: string): CrioError {
  return new CrioError('invalid', `invalid ${what} "${entry}": ${problem}`);
}
