import { closeSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { hasCode } from '../base/errors.ts';
import { pidfdOpen, pidfdSendSignal, waitPidfd } from './process.ts';

const SIGKILL = 9;
const endMs = 5000;

/**
 * Kills the processes whose `environ` or `cmdline` (proc(5): strings that end in NUL) holds exactly this string, and waits
 * for their end. For what a killed daemon left in the middle of its work: such processes are nobody's child any more.
 */
export async function endProcesses(file: 'environ' | 'cmdline', entry: string): Promise<void> {
  const own = String(process.pid);
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && name !== own);
  for (const pid of pids) if (await holds(`/proc/${pid}/${file}`, entry)) await end(Number(pid));
}

async function holds(path: string, entry: string): Promise<boolean> {
  try {
    return (await readFile(path, 'latin1')).split('\0').includes(entry);
  } catch (error) {
    // It ended meanwhile, or may not be read.
    if (hasCode(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) return false;
    throw error;
  }
}

async function end(pid: number): Promise<void> {
  let pidfd: number;
  try {
    pidfd = pidfdOpen(pid);
  } catch (error) {
    if (hasCode(error, 'ESRCH')) return;
    throw error;
  }
  try {
    pidfdSendSignal(pidfd, SIGKILL);
    await waitPidfd(pidfd, AbortSignal.timeout(endMs));
  } catch (error) {
    if (!hasCode(error, 'ESRCH')) throw error;
  } finally {
    closeSync(pidfd);
  }
}
