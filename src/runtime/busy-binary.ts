import { setTimeout as sleep } from 'node:timers/promises';
import type { Call } from '../base/call.ts';
import { messageOf } from '../base/errors.ts';

/**
 * runc runs from a sealed copy of itself (CVE-2019-5736). Some versions (1.1.15 on Debian 13) now and then find that copy
 * still open for writing by a sister process, and give up before anything of the container has been started.
 */
const busyText = 'could not ensure we are a cloned binary: Device or resource busy';
const maxTries = 4;
const pauseMs = 20;

/** The runtime's line that says so; it stands beside the last error, which is only a consequence. */
export function busyBinaryLine(text: string): string | undefined {
  const at = text.indexOf(busyText);
  return at < 0 ? undefined : `nsexec: ${busyText}`;
}

/** Does the work again, a few times, when it fails with exactly this error. */
export async function retryWhileBinaryIsBusy<T>(call: Call, work: () => Promise<T>): Promise<T> {
  for (let count = 1; ; count++) {
    try {
      return await work();
    } catch (error) {
      if (count >= maxTries || !messageOf(error).includes(busyText)) throw error;
      call.log.warn(`run the runtime again: ${busyText}`);
      await sleep(pauseMs * count);
      call.throwIfAborted();
    }
  }
}
