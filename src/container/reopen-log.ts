import { dirname } from 'node:path';
import type { Call } from '../base/call.ts';
import { CrioError } from '../base/errors.ts';
import { runtimeFor, type Context } from './context.ts';
import { checkLogPath } from './log-path.ts';
import { notFound } from './store.ts';

/** The monitor truncates this file, writes to it from then on and renames it over the log. */
const monitorSuffix = '.tmp';

/** Makes the monitor open the log anew after the kubelet has moved it away; also while a stop is waiting. */
export async function reopenLog(context: Context, call: Call, idOrPrefix: string): Promise<void> {
  const entry = context.index.find(idOrPrefix);
  // The code of CRI-O's answer is Unknown here, with the same text as elsewhere.
  if (entry === undefined) throw new CrioError('unknown', notFound(idOrPrefix).message);
  const { bundle, logPath, podId, runtimeHandler, state } = entry.container;
  const isUp = state.status === 'created' || state.status === 'running' || state.status === 'paused';
  if (!isUp) throw new CrioError('unknown', 'container is not running');
  // Whoever shares the folder with a container may have planted links since; the monitor writes through them.
  const logDirectory = context.findPod(podId)?.logDirectory ?? dirname(logPath);
  await checkLogPath({ logDirectory, path: logPath });
  await checkLogPath({ logDirectory, path: `${logPath}${monitorSuffix}` });
  await runtimeFor(context, runtimeHandler).reopenLog(call, { bundle, logPath });
}
