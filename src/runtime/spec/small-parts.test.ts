import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cgroupsPath } from './cgroups-path.ts';
import { chooseArguments, chooseWorkingDirectory, isSystemd } from './command.ts';
import { sortByDepth } from './container-mounts.ts';
import { rfc3339Nano } from './cri-json.ts';
import { chooseMaskedPaths } from './masked-paths.ts';
import { parseUlimit } from './rlimits.ts';

test('cgroupsPath suits the manager', () => {
  assert.equal(cgroupsPath({ manager: 'cgroupfs', parent: '/kubepods/pod1', id: 'c' }), '/kubepods/pod1/crio-c');
  assert.equal(cgroupsPath({ manager: 'cgroupfs', parent: '', id: 'c' }), '/crio/crio-c');
  assert.equal(
    cgroupsPath({ manager: 'systemd', parent: '/kubepods.slice/kubepods-pod1.slice', id: 'c' }),
    'kubepods-pod1.slice:crio:c',
  );
  assert.equal(cgroupsPath({ manager: 'systemd', parent: '', id: 'c' }), 'system.slice:crio:c');
  assert.throws(() => cgroupsPath({ manager: 'systemd', parent: '/pod1', id: 'c' }), {
    message: 'cri-o configured with systemd cgroup manager, but did not receive slice as parent: /pod1',
  });
  assert.throws(() => cgroupsPath({ manager: 'cgroupfs', parent: '/a.slice', id: 'c' }), {
    message: 'cri-o configured with cgroupfs cgroup manager, but received systemd slice as parent: /a.slice',
  });
});

test('chooseArguments: a command drops the command of the image, arguments replace it', () => {
  const image = { entrypoint: ['/entry'], cmd: ['cmd'] };
  assert.deepEqual(chooseArguments({ command: [], args: [], image }), ['/entry', 'cmd']);
  assert.deepEqual(chooseArguments({ command: ['/mine'], args: [], image }), ['/mine']);
  assert.deepEqual(chooseArguments({ command: [], args: ['a'], image }), ['/entry', 'a']);
  assert.deepEqual(chooseArguments({ command: ['/mine'], args: ['a'], image }), ['/mine', 'a']);
  const empty = { entrypoint: [], cmd: [] };
  assert.throws(() => chooseArguments({ command: [], args: [], image: empty }), { message: 'no command specified' });
});

test('isSystemd knows init by its path and systemd by its name', () => {
  for (const program of ['/sbin/init', '/usr/sbin/init', '/usr/lib/systemd/systemd', 'systemd'])
    assert.ok(isSystemd([program]));
  for (const program of ['/usr/bin/systemd-notify', 'init', '']) assert.ok(!isSystemd([program]));
});

test('chooseWorkingDirectory is absolute', () => {
  assert.equal(chooseWorkingDirectory('', ''), '/');
  assert.equal(chooseWorkingDirectory('', 'app'), '/app');
  assert.equal(chooseWorkingDirectory('/x', '/app'), '/x');
});

test('chooseMaskedPaths adds the defaults to a list, and leaves none as none', () => {
  assert.deepEqual(chooseMaskedPaths([], ['/sys/x']), []);
  const masked = chooseMaskedPaths(['/proc/kcore', '/mine'], ['/sys/devices/system/cpu/cpu0/thermal_throttle']);
  assert.equal(masked[0], '/mine');
  assert.ok(masked.includes('/sys/fs/selinux') && masked.includes('/sys/devices/system/cpu/cpu0/thermal_throttle'));
  assert.equal(new Set(masked).size, masked.length);
});

test('parseUlimit reads soft and hard limits', () => {
  assert.deepEqual(parseUlimit('nofile=1024:4096'), { type: 'RLIMIT_NOFILE', hard: 4096, soft: 1024 });
  assert.deepEqual(parseUlimit('core=-1'), { type: 'RLIMIT_CORE', hard: 2n ** 64n - 1n, soft: 2n ** 64n - 1n });
  for (const bad of ['nofile', 'nofile=a', 'nofile=5:4', 'foo=1', 'nofile=1:2:3'])
    assert.throws(() => parseUlimit(bad), { kind: 'invalid' });
});

test('rfc3339Nano leaves trailing zeros out', () => {
  assert.equal(rfc3339Nano(1_700_000_000_000_000_000n), '2023-11-14T22:13:20Z');
  assert.equal(rfc3339Nano(1_700_000_000_120_000_000n), '2023-11-14T22:13:20.12Z');
  assert.equal(rfc3339Nano(1_700_000_000_000_000_001n), '2023-11-14T22:13:20.000000001Z');
});

test('sortByDepth never mounts a parent over its child, and keeps equals in order', () => {
  const path = fc
    .array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 4 })
    .map((parts) => `/${parts.join('/')}`);
  fc.assert(
    fc.property(fc.uniqueArray(path), (paths) => {
      const sorted = sortByDepth(paths.map((destination) => ({ destination }))).map(({ destination }) => destination);
      for (const [index, destination] of sorted.entries()) {
        const isHidden = sorted.slice(index + 1).some((later) => destination.startsWith(`${later}/`));
        assert.ok(!isHidden, `${destination} is hidden in ${sorted.join(' ')}`);
      }
      const depth = (text: string) => text.split('/').length;
      for (const level of new Set(sorted.map(depth))) {
        const ofLevel = (all: string[]) => all.filter((item) => depth(item) === level);
        assert.deepEqual(ofLevel(sorted), ofLevel(paths));
      }
    }),
  );
});
