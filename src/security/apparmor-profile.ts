import { readFile } from 'node:fs/promises';
import { hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { run } from '../sys/run.ts';

/** Name of the profile that containers get when none is configured. */
export const defaultProfileName = 'crio-default';

/**
 * The default profile, apparmor.d(5): everything a container may do anyway, but no mounts, no other container's
 * processes, and no writing to what of /proc and /sys belongs to the node. It includes no other file, so that it loads
 * wherever the parser is.
 */
export const defaultProfileText = `profile ${defaultProfileName} flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  signal (receive),
  signal (send) peer=${defaultProfileName},
  ptrace (read, trace) peer=${defaultProfileName},
  ptrace (readby, tracedby),
  deny mount,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /proc/mem rwklx,
  deny /proc/kmem rwklx,
  deny /proc/sys/[^fkn]** wklx,
  deny /proc/sys/fs/[^m]** wklx,
  deny /proc/sys/kernel/[^ms]** wklx,
  deny /proc/acpi/** rwklx,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
`;

const parserTimeoutMs = 30_000;
const parsers = ['/sbin/apparmor_parser', '/usr/sbin/apparmor_parser'];

/** Keeps the default profile loaded. */
export class DefaultApparmorProfile {
  #loading: Promise<boolean> | undefined;
  #hasWarned = false;

  /** Loads it again when it is gone. False, with one warning, when that is not possible: containers then run without. */
  async ensureLoaded(log: Logger): Promise<boolean> {
    if (await isLoaded(defaultProfileName)) return true;
    this.#loading ??= this.#load(log).finally(() => (this.#loading = undefined));
    return this.#loading;
  }

  async #load(log: Logger): Promise<boolean> {
    const problem = await loadProfile(defaultProfileText);
    if (problem === undefined) return true;
    if (!this.#hasWarned)
      log.warn(`load AppArmor profile "${defaultProfileName}": ${problem}; containers run without it`);
    this.#hasWarned = true;
    return false;
  }
}

/** Lines read `name (mode)`. */
async function isLoaded(name: string): Promise<boolean> {
  try {
    const profiles = await readFile('/sys/kernel/security/apparmor/profiles', 'utf8');
    return profiles.split('\n').some((line) => line.startsWith(`${name} (`));
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EACCES')) return false;
    throw error;
  }
}

/** What went wrong; undefined when it is loaded. */
async function loadProfile(text: string): Promise<string | undefined> {
  let problem = 'no apparmor_parser';
  for (const file of parsers) {
    try {
      const { code, stderr } = await run({ file, args: ['-Kr'], env: {}, input: text, timeoutMs: parserTimeoutMs });
      return code === 0 ? undefined : stderr.toString().trim();
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) problem = messageOf(error);
    }
  }
  return problem;
}
