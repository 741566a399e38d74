import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { sendDatagram } from '../sys/datagram.ts';

/** Tells the service manager (sd_notify(3)); without one nothing happens, and one that does not listen is only a warning. */
export function notifyServiceManager(socketPath: string | undefined, state: string, log: Logger): void {
  if (socketPath === undefined || socketPath === '') return;
  try {
    try {
      sendDatagram(socketPath, Buffer.from(state));
    } catch (error) {
      log.debug(() => `Tell the service manager "${state}", once more: ${messageOf(error)}`);
      sendDatagram(socketPath, Buffer.from(state));
    }
  } catch (error) {
    log.warn(`Tell the service manager "${state}"`, error);
  }
}
