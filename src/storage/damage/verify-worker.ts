import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort } from 'node:worker_threads';
import { messageOf } from '../../base/errors.ts';
import { yieldToOthers } from '../../sys/priority.ts';
import type { VerifyReply } from './verify-messages.ts';
import { verifyLayer } from './verify-layer.ts';
import type { LayerToVerify } from './verify-layer.ts';

/** The worker that reads layers in the background: one at a time, at the lowest priority, and at rest half of the time. */
const port = parentPort;
if (port === null) throw new Error('verify-worker.ts only runs as a worker');
try {
  yieldToOthers();
} catch {
  // A sandbox may forbid it; there is the rest as well.
}

/** So much is read between two rests, bytes. */
const stretch = 4 * 1024 * 1024;
let read = 0;
let sinceMs = performance.now();

port.on('message', (layer: LayerToVerify) => {
  verifyLayer(layer, pace).then(
    (fault) => reply({ type: 'done', fault }),
    (error: unknown) => reply({ type: 'failed', message: messageOf(error) }),
  );
});

function reply(message: VerifyReply): void {
  port?.postMessage(message);
}

async function pace(bytes: number): Promise<void> {
  read += bytes;
  if (read < stretch) return;
  read = 0;
  await sleep(performance.now() - sinceMs);
  sinceMs = performance.now();
}
