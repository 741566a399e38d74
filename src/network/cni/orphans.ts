import { closeSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { hasCode } from '../../base/errors.ts';
import { pidfdOpen, pidfdSendSignal, waitPidfd } from '../../sys/process.ts';

const SIGKILL = 9;
const endMs = 5000;

/**
 * Ends plugins that a killed daemon left running for a pod, with the programs that they started: an ADD that goes on
 * after its DEL would leave an interface and an address behind for good. They are known by their environment.
 */
export async function endOrphanedPlugins(containerId: string): Promise<void> {
  const marker = Buffer.from(`\0CNI_CONTAINERID=${containerId}\0`);
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  for (const pid of pids) if (await isPlugin(pid, marker)) await end(Number(pid));
}

async function isPlugin(pid: string, marker: Buffer): Promise<boolean> {
  try {
    const environment = await readFile(`/proc/${pid}/environ`);
    return Buffer.concat([Buffer.from('\0'), environment]).includes(marker);
  } catch (error) {
    // It ended, or is no process of ours to read.
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
