import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failure, isGoneBy, pinned, runtimeEnvironment } from './command.ts';
import type { RuntimeCommand } from './command.ts';
import { conmonArgs } from './conmon.ts';
import type { MonitorSettings } from './conmon.ts';
import type { CreateOptions } from './runtime.ts';

const command: RuntimeCommand = {
  handler: 'runc',
  path: '/usr/bin/runc',
  root: '/run/crun',
  systemdCgroup: false,
  env: {},
  cpuset: '',
};
const monitor: MonitorSettings = {
  path: '/usr/bin/conmon',
  exitsDir: '/var/run/crio/exits',
  attachSocketDir: '/var/run/crio',
  logLevel: 'debug',
  logSizeMax: -1,
  logToJournald: false,
  noPivot: false,
  noSyncLog: false,
};
const create: CreateOptions = {
  id: 'ID',
  name: 'NAME',
  bundle: '/run/B',
  persistDir: '/var/P',
  logPath: '/var/log/0.log',
  terminal: false,
  stdin: false,
  stdinOnce: false,
  cgroupParent: '',
  timeoutMs: 1000,
};
// Recorded from CRI-O.
const recorded =
  '-b /run/B -c ID --exit-dir /var/run/crio/exits -l /var/log/0.log --log-level debug -n NAME -P /run/B/conmon-pidfile ' +
  '-p /run/B/pidfile --persist-dir /var/P -r /usr/bin/runc --runtime-arg --root=/run/crun --socket-dir-path /var/run/crio ' +
  '--syslog -u ID';

test('conmonArgs are those of CRI-O', () => {
  assert.equal(conmonArgs(command, monitor, create).join(' '), recorded);
  assert.equal(conmonArgs(command, monitor, { ...create, terminal: true, stdin: true }).join(' '), `${recorded} -t`);
});

test('conmonArgs keep stdin open unless it is for one client', () => {
  assert.equal(conmonArgs(command, monitor, { ...create, stdin: true }).join(' '), `${recorded} --leave-stdin-open -i`);
  assert.equal(conmonArgs(command, monitor, { ...create, stdin: true, stdinOnce: true }).join(' '), `${recorded} -i`);
});

test('conmonArgs carry the configuration', () => {
  const all = { ...monitor, logSizeMax: 8192, logToJournald: true, noPivot: true, noSyncLog: true };
  assert.equal(
    conmonArgs({ ...command, systemdCgroup: true }, all, create).join(' '),
    `${recorded} -s --log-size-max 8192 --no-sync-log --log-path journald: --no-pivot`,
  );
});

test('runtimeEnvironment is monitor_env, the mark and two of the daemon’s own variables', () => {
  assert.deepEqual(runtimeEnvironment(['A=1=2', 'PATH=/x', '=bad', 'bad'], { PATH: '/bin', HOME: '/root' }), {
    A: '1=2',
    PATH: '/bin',
    CRI_O_EXTERNAL: '1',
  });
  assert.deepEqual(runtimeEnvironment([], { XDG_RUNTIME_DIR: '/run/user/0' }), {
    CRI_O_EXTERNAL: '1',
    XDG_RUNTIME_DIR: '/run/user/0',
  });
});

test('pinned binds a program to CPUs when that is configured', () => {
  assert.deepEqual(pinned(command, '/bin/x', ['y']), { file: '/bin/x', args: ['y'] });
  assert.deepEqual(pinned({ ...command, cpuset: '0-1' }, '/bin/x', ['y']), {
    file: 'taskset',
    args: ['--cpu-list', '0-1', '/bin/x', 'y'],
  });
});

const result = (stderr: string, signal?: number) => ({
  code: signal === undefined ? 1 : undefined,
  signal,
  stdout: Buffer.alloc(0),
  stderr: Buffer.from(stderr),
  timedOut: false,
});

test('failure words errors as CRI-O does', () => {
  const about = { verb: 'start', id: 'ID' } as const;
  const error = failure('/usr/bin/crun', ['start', 'ID'], { ...about, result: result('cannot start\n') });
  assert.equal(error.message, '`/usr/bin/crun start ID` failed: cannot start: exit status 1');
  assert.equal(error.kind, 'unknown');
  assert.equal(failure('r', ['x'], { ...about, result: result('', 9) }).message, '`r x` failed: signal: killed');
});

test('failure recognises a process that is gone', () => {
  const error = failure('r', ['kill', 'ID', '15'], {
    verb: 'kill',
    id: 'ID',
    result: result('kill container: No such process\n'),
  });
  assert.equal(error.kind, 'not-found');
  assert.equal(error.message, '`r kill ID 15` failed: kill container: No such process: container process not found');
});

const unknownContainer = [
  'time="2026-01-01T00:00:00Z" level=error msg="container does not exist"',
  'ERRO[0000] container does not exist',
  'error opening file `/run/crun/ID/status`: No such file or directory',
  'container `ID` does not exist: error opening file `/run/crun/ID/status`: No such file or directory',
  "cannot open directory '/run/crun/ID': No such file or directory",
];
const endedProcess = [
  'open pidfd: No such process',
  'kill container: No such process',
  'time="x" level=error msg="container not running"',
  'container not running: No such process',
  'process not running: No such process',
  'the container `ID` is not running: No such process',
  'the container `ID` is not running',
  'container `ID` is not running',
];
const otherTroubles = [
  'permission denied',
  'error executing hook `/opt/hook` (exit code: 1): the file does not exist',
  'time="x" level=error msg="running poststop hook: exit status 1, stdout: , stderr: container does not exist"',
  'time="x" level=error msg="cgroup path /sys/fs/cgroup/pids/a does not exist"',
  'container does not exist\nerror executing hook `/opt/hook` (exit code: 1)',
  'error opening file `/run/crun/OTHER/status`: No such file or directory',
  'the container `OTHER` is not running',
  'the device is not running',
];

test('isGoneBy takes only the words about the container itself, and for no start', () => {
  for (const text of unknownContainer) {
    assert.ok(isGoneBy('kill', 'ID', text), text);
    assert.ok(isGoneBy('delete', 'ID', text), text);
    assert.ok(!isGoneBy('start', 'ID', text), text);
  }
  for (const text of endedProcess) {
    assert.ok(isGoneBy('kill', 'ID', text), text);
    assert.ok(isGoneBy('pause', 'ID', text), text);
    assert.ok(!isGoneBy('delete', 'ID', text), text);
    assert.ok(!isGoneBy('start', 'ID', text), text);
  }
  for (const text of otherTroubles) {
    for (const verb of ['kill', 'delete', 'start'] as const) assert.ok(!isGoneBy(verb, 'ID', text), `${verb}: ${text}`);
  }
});
