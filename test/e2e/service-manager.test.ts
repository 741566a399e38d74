import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { execSync, removePod, runContainer, runPod, waitFor } from '../client/pods.ts';
import { startDaemon } from '../run/daemon.ts';
import { repository, stageFolder } from '../run/stage.ts';

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

function takeNetworkAway(): Disposable {
  const folder = '/etc/cni/net.d';
  const files = readdirSync(folder).map((name) => ({
    path: join(folder, name),
    text: readFileSync(join(folder, name)),
  }));
  for (const { path } of files) rmSync(path);
  return {
    [Symbol.dispose]: () => {
      for (const { path, text } of files) writeFileSync(path, text);
    },
  };
}

test('the service manager hears when the daemon is ready, that it is well, and when it stops', async () => {
  const path = join(stageFolder(), 'notify.sock');
  using manager = startReceiver(path);
  const heard = (state: string) => manager.lines().filter((line) => line === state).length;
  await waitFor('the receiver', 10_000, () => heard('listening') === 1 || undefined);
  await using daemon = await startDaemon({ env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: '2000000' } });
  await waitFor('signs of life', 20_000, () => heard('WATCHDOG=1') >= 2 || undefined);
  assert.deepEqual(manager.lines().slice(0, 3), ['listening', 'READY=1', 'WATCHDOG=1']);
  // A network that was there and is gone is a fault.
  using _network = takeNetworkAway();
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

test('what make install puts on a node needs no checkout: its units name the program, and it runs pods', async () => {
  const folder = join(stageFolder(), 'installed');
  const env = { ...process.env, DESTDIR: folder, PREFIX: '/opt/node' };
  execFileSync(process.execPath, [join(repository, 'scripts/install.ts')], { env });
  const placed = (path: string) => join(folder, '/opt/node', path);
  for (const [name, end] of [
    ['crio.service', '$CRIO_METRICS_OPTIONS'],
    ['crio-wipe.service', 'wipe'],
  ] as const) {
    const unit = readFileSync(placed(`lib/systemd/system/${name}`), 'utf8').replaceAll(/\\\n\s*/g, '');
    const [, command = ''] = /^ExecStart=(.*)$/m.exec(unit) ?? [];
    assert.ok(command.startsWith('/opt/node/bin/crio ') && command.endsWith(` ${end}`), command);
  }
  const program = placed('bin/crio');
  assert.match(execFileSync(program, ['config'], { encoding: 'utf8' }), /^\[crio\.image\]$/m);
  await using daemon = await startDaemon({ wrapper: ['/bin/sh', '-c', 'shift; exec "$0" "$@"', program] });
  assert.ok(readlinkSync(`/proc/${daemon.pid()}/exe`).startsWith(placed('lib/crio-ts/node_modules/')));
  const pod = await runPod(daemon.client);
  const container = await runContainer(daemon.client, pod, { name: 'main', command: ['sleep', '1000'] });
  assert.equal((await execSync(daemon.client, container, ['echo', 'hi'])).stdout, 'hi\n');
  await removePod(daemon.client, pod.id);
  rmSync(folder, { recursive: true });
});
