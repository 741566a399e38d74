import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { waitFor } from '../client/pods.ts';
import { startDaemon } from '../run/daemon.ts';
import { stageFolder } from '../run/stage.ts';

/** Prints each datagram as a line; node:net has no such sockets. */
const receiver = `
socket(my $s, PF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($s, sockaddr_un($ARGV[0])) or die $!;
$| = 1;
print "listening\\n";
while (defined recv($s, my $text, 4096, 0)) { print "$text\\n" }
`;

function startReceiver(path: string) {
  const child = spawn('perl', ['-MSocket', '-e', receiver, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  return {
    lines: () => output.trim().split('\n'),
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  };
}

const networks = '/etc/cni/net.d';

test('the service manager hears when the daemon is ready, that it is well, and when it stops', async () => {
  const path = join(stageFolder(), 'notify.sock');
  using manager = startReceiver(path);
  const heard = (state: string) => manager.lines().filter((line) => line === state).length;
  await waitFor('the receiver', 10_000, () => heard('listening') === 1 || undefined);
  await using daemon = await startDaemon({ env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: '2000000' } });
  await waitFor('signs of life', 20_000, () => heard('WATCHDOG=1') >= 2 || undefined);
  assert.deepEqual(manager.lines().slice(0, 3), ['listening', 'READY=1', 'WATCHDOG=1']);
  // A network that was there and is gone is a fault.
  for (const name of readdirSync(networks)) rmSync(join(networks, name));
  const silent = () => daemon.log().includes('Will not tell the watchdog that the daemon is well');
  await waitFor('the silence', 20_000, () => silent() || undefined);
  const before = heard('WATCHDOG=1');
  const count = () => daemon.log().split('condition NetworkReady is false').length;
  const complaints = count();
  await waitFor('more silence', 20_000, () => count() >= complaints + 2 || undefined);
  assert.equal(heard('WATCHDOG=1'), before);
  await daemon.stop();
  await waitFor('the stop', 10_000, () => heard('STOPPING=1') === 1 || undefined);
});

test('a service manager that does not listen keeps no daemon from its work', async () => {
  const missing = join(stageFolder(), 'missing.sock');
  await using daemon = await startDaemon({ env: { NOTIFY_SOCKET: missing } });
  await waitFor('the warning', 10_000, () => daemon.log().includes('Tell the service manager') || undefined);
  assert.equal((await daemon.client.runtime.version({})).runtimeName, 'cri-o');
});
