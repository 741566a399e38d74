import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
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

const sender = `
socket(my $s, PF_UNIX, SOCK_DGRAM, 0) or die $!;
send($s, $ARGV[1], 0, sockaddr_un($ARGV[0])) or die $!;
`;

function startReceiver(path: string) {
  const child = spawn('perl', ['-MSocket', '-e', receiver, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  return {
    lines: () => output.trim().split('\n'),
    /** Comes after all that was sent so far. */
    mark: (text: string) => void execFileSync('perl', ['-MSocket', '-e', sender, path, text]),
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
  await using daemon = await startDaemon({ env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: '10000000' } });
  const conditions = async () => (await daemon.client.runtime.status({})).status?.conditions ?? [];
  await waitFor('the network', 20_000, async () => (await conditions()).every(({ status }) => status) || undefined);
  const early = heard('WATCHDOG=1');
  await waitFor('a sign of life', 60_000, () => heard('WATCHDOG=1') > early || undefined);
  assert.deepEqual(manager.lines().slice(0, 3), ['listening', 'READY=1', 'WATCHDOG=1']);
  // A network that was there and is gone is a fault.
  using _network = takeNetworkAway();
  const complaint = /Will not tell the watchdog that the daemon is well.*condition NetworkReady is false/g;
  const complaints = () => daemon.log().match(complaint)?.length ?? 0;
  await waitFor('the first complaint', 60_000, () => complaints() >= 1 || undefined);
  manager.mark('the network is gone');
  const before = complaints();
  await waitFor('another complaint', 60_000, () => complaints() > before || undefined);
  await daemon.stop();
  await waitFor('the stop', 10_000, () => heard('STOPPING=1') === 1 || undefined);
  const lines = manager.lines();
  assert.deepEqual(lines.slice(lines.indexOf('the network is gone')), ['the network is gone', 'STOPPING=1']);
});

test('a service manager that does not listen keeps no daemon from its work', async () => {
  const missing = join(stageFolder(), 'missing.sock');
  await using daemon = await startDaemon({ env: { NOTIFY_SOCKET: missing } });
  await waitFor('the warning', 10_000, () => daemon.log().includes('Tell the service manager') || undefined);
  assert.equal((await daemon.client.runtime.version({})).runtimeName, 'cri-o');
});

/** The folder and the places below it whose mode is not 755 for folders, 644 or 755 for files. */
function oddModes(folder: string): readonly string[] {
  return [folder, ...readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name))]
    .map((path) => ({ path, status: lstatSync(path) }))
    .filter(({ status }) => !status.isSymbolicLink())
    .map(({ path, status }) => ({ path, mode: status.mode & 0o7777, isFolder: status.isDirectory() }))
    .filter(({ mode, isFolder }) => mode !== 0o755 && (isFolder || mode !== 0o644))
    .map(({ path, mode }) => `${path} ${mode.toString(8)}`);
}

/** Starts the program with an empty folder over the checkout; the pods' mounts stay in that namespace. */
function withoutCheckout(program: string): readonly string[] {
  const empty = join(stageFolder(), 'empty');
  mkdirSync(empty);
  const script = 'mount --bind "$1" "$2"; cd /; shift 3; exec "$0" "$@"';
  return ['unshare', '--mount', '--propagation', 'slave', 'sh', '-ec', script, program, empty, repository];
}

test('what make install puts on a node needs no checkout: its units name the program, and it runs pods', async () => {
  const folder = join(stageFolder(), 'installed');
  const env = { ...process.env, DESTDIR: folder, PREFIX: '/opt/node' };
  const placed = (path: string) => join(folder, '/opt/node', path);
  // An installation from before, and one that was broken off.
  for (const path of ['lib/crio-ts/stale', 'lib/crio-ts.old/stale']) mkdirSync(placed(path), { recursive: true });
  const script = join(repository, 'scripts/install.ts');
  execFileSync('sh', ['-c', 'umask 077; exec "$0" "$1"', process.execPath, script], { env });
  assert.deepEqual(readdirSync(placed('lib')).toSorted(), ['crio-ts', 'systemd']);
  assert.ok(!readdirSync(placed('lib/crio-ts')).includes('stale'));
  assert.deepEqual(oddModes(folder), []);
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
  await using daemon = await startDaemon({ wrapper: withoutCheckout(program) });
  assert.ok(readlinkSync(`/proc/${daemon.pid()}/exe`).startsWith(placed('lib/crio-ts/node_modules/')));
  const pod = await runPod(daemon.client);
  const container = await runContainer(daemon.client, pod, { name: 'main', command: ['sleep', '1000'] });
  assert.equal((await execSync(daemon.client, container, ['echo', 'hi'])).stdout, 'hi\n');
  await removePod(daemon.client, pod.id);
  rmSync(folder, { recursive: true });
});
