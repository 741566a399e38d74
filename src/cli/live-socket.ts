import { connect } from 'node:net';
import { CrioError, hasCode, wrap } from '../base/errors.ts';

/**
 * Refuses to start beside a daemon that answers on this socket: before anything of it, such as the store, is touched.
 * The text is CRI-O's.
 */
export async function refuseLiveSocket(path: string): Promise<void> {
  const isLive = await new Promise<boolean>((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => {
      if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ECONNREFUSED')) resolve(false);
      else reject(wrap(`connect to "${path}"`, error));
    });
  });
  if (isLive)
    throw new CrioError('failed-precondition', `validating api config: already existing connection on ${path}`);
}
