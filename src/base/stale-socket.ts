import { rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { CrioError, hasCode } from './errors.ts';

/** Makes room for a new unix socket: one that nobody answers on was left by a process that died. Throws when one answers. */
export async function removeStaleSocket(path: string): Promise<void> {
  const isLive = await new Promise<boolean>((resolve, reject) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error) => {
      if (hasCode(error, 'ENOENT', 'ECONNREFUSED')) resolve(false);
      else reject(error);
    });
  });
  if (isLive) throw new CrioError('failed-precondition', `listen on "${path}": another process answers there already`);
  await rm(path, { force: true });
}
