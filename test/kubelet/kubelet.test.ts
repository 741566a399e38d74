/** A real kubelet on the daemon. Environment: CRI_SOCKET, the daemon's socket. See docs/kubelet.md. */
import { after, before, describe } from 'node:test';
import { logTests } from './log-tests.ts';
import { removalTests } from './removal-tests.ts';
import { restartTests } from './restart-tests.ts';
import { statsTests } from './stats-tests.ts';
import { streamTests } from './stream-tests.ts';
import { workloadTests } from './workload-tests.ts';
import { startWorld, stopWorld, type World } from './world.ts';

const socket = process.env['CRI_SOCKET'] ?? '/var/run/crio/crio.sock';
let running: World | undefined;

const world = (): World => {
  if (running === undefined) throw new Error('use the kubelet: not started yet');
  return running;
};

before(async () => {
  running = await startWorld(socket);
});
after(async () => {
  if (running !== undefined) await stopWorld(running);
});

// Most of these wait for the kubelet: all at the same time.
describe('a kubelet', { concurrency: true }, () => {
  workloadTests(world);
  logTests();
  streamTests(world);
  statsTests(world);
});
restartTests(world);
removalTests(world);
