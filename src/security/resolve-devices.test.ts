import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type DevicesRequest, parseDevice, resolveDevices } from './resolve-devices.ts';

const folder = mkdtempSync(join(tmpdir(), 'devices-'));
after(() => rmSync(folder, { recursive: true }));

const nothing: DevicesRequest = {
  devices: [],
  additional: [],
  annotation: undefined,
  allowed: ['/dev/null'],
  privileged: false,
  privilegedWithoutHostDevices: false,
  owner: undefined,
};

test('parseDevice reads source, destination and permissions', () => {
  assert.deepEqual(parseDevice('/dev/fuse'), { hostPath: '/dev/fuse', containerPath: '/dev/fuse', permissions: 'rwm' });
  assert.deepEqual(parseDevice('/dev/fuse:r'), { hostPath: '/dev/fuse', containerPath: '/dev/fuse', permissions: 'r' });
  assert.deepEqual(parseDevice('/dev/a:/dev/b:rw'), { hostPath: '/dev/a', containerPath: '/dev/b', permissions: 'rw' });
  for (const bad of [
    '',
    'dev/a',
    '/dev/a:/etc/b',
    '/dev/a:/dev/../etc/b',
    '/dev/a:/dev/b:x',
    '/dev/a:/dev/b:rwm:r',
    '/dev/a:rw:r',
  ]) {
    assert.throws(() => parseDevice(bad), { kind: 'invalid' }, bad);
  }
});

test('resolveDevices gives a node with its number and a rule', async () => {
  const { nodes, rules } = await resolveDevices({
    ...nothing,
    devices: [{ hostPath: '/dev/null', containerPath: '/dev/mine', permissions: 'rw' }],
  });
  assert.deepEqual(nodes, [{ path: '/dev/mine', type: 'c', major: 1, minor: 3, fileMode: 0o666, uid: 0, gid: 0 }]);
  assert.deepEqual(rules, [{ allow: true, type: 'c', major: 1, minor: 3, access: 'rw' }]);
});

test('resolveDevices takes all devices below a directory and follows links', async () => {
  mkdirSync(join(folder, 'all'));
  writeFileSync(join(folder, 'all/plain'), '');
  symlinkSync('/dev/null', join(folder, 'link'));
  assert.deepEqual(
    (
      await resolveDevices({
        ...nothing,
        devices: [{ hostPath: join(folder, 'all'), containerPath: '/dev/all', permissions: '' }],
      })
    ).nodes,
    [],
  );
  const { nodes } = await resolveDevices({
    ...nothing,
    devices: [{ hostPath: join(folder, 'link'), containerPath: '/dev/x', permissions: 'r' }],
  });
  assert.equal(nodes[0]?.minor, 3);
});

test('resolveDevices refuses what is missing or no device', async () => {
  const at = (hostPath: string) =>
    resolveDevices({ ...nothing, devices: [{ hostPath, containerPath: '/dev/x', permissions: 'r' }] });
  await assert.rejects(at('/dev/none'), /find device "\/dev\/none": ENOENT/);
  await assert.rejects(at('/etc/passwd'), /not a device node/);
});

test('the devices annotation only names devices that the node allows', async () => {
  const { nodes } = await resolveDevices({ ...nothing, annotation: '/dev/null:/dev/a, /dev/null' });
  assert.deepEqual(
    nodes.map(({ path }) => path),
    ['/dev/a', '/dev/null'],
  );
  await assert.rejects(resolveDevices({ ...nothing, annotation: '/dev/zero' }), {
    message: 'device /dev/zero is specified but is not in allowed_devices',
  });
});

test('a privileged container gets the devices of the host and one rule', async () => {
  const { nodes, rules } = await resolveDevices({ ...nothing, privileged: true });
  assert.ok(nodes.some(({ path }) => path === '/dev/null'));
  assert.ok(!nodes.some(({ path }) => path.startsWith('/dev/pts/') || path.startsWith('/dev/shm/')));
  assert.deepEqual(rules, [{ allow: true, access: 'rwm' }]);
  const without = await resolveDevices({ ...nothing, privileged: true, privilegedWithoutHostDevices: true });
  assert.deepEqual(without, { nodes: [], rules: [] });
  await assert.rejects(
    resolveDevices({
      ...nothing,
      privileged: true,
      devices: [{ hostPath: '/dev/null', containerPath: '/dev/zero', permissions: 'r' }],
    }),
    {
      message: 'privileged container was configured with a device container path that already exists on the host',
    },
  );
});

test('nodes take the owner of the security context when that is configured', async () => {
  const { nodes } = await resolveDevices({ ...nothing, additional: ['/dev/null'], owner: { uid: 1000, gid: 0 } });
  assert.deepEqual([nodes[0]?.uid, nodes[0]?.gid], [1000, 0]);
});
