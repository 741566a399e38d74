import { sendDatagram } from '../sys/datagram.ts';

/** Tells the service manager (sd_notify(3)); without one, or when it does not listen, nothing happens. */
export function notifyServiceManager(socketPath: string | undefined, state: string): void {
  if (socketPath === undefined || socketPath === '') return;
  sendDatagram(socketPath, Buffer.from(state));
}
