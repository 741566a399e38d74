/**
 * Runs in the virtual machine: starts a registry and the daemon, pulls two images and removes one, and says so. Ends with
 * the machine.
 */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '../client/client.ts';

const [first = '', second = ''] = process.argv.slice(2);
const started = performance.now();
const say = (text: string): void =>
  console.log(`guest: ${text} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
try {
  spawn('docker-registry', ['serve', '/etc/registry.yml'], { stdio: 'inherit' });
  spawn('/crio/bin/crio', [], { stdio: 'inherit' });
  using client = connect('/var/run/crio/crio.sock');
  for (;;) {
    try {
      await client.runtime.version({}, { timeoutMs: 5000 });
      break;
    } catch {
      await sleep(200);
    }
  }
  say('the daemon answers');
  for (const image of [first, second]) {
    await client.image.pullImage({ image: { image } });
    say(`pulled ${image}`);
    await sleep(1500);
  }
  await client.image.removeImage({ image: { image: first } });
  say(`removed ${first}`);
  await sleep(1500);
  say('done');
} catch (error) {
  console.log(`guest: failed: ${String(error)}`);
}
process.exit(0);
