import assert from 'node:assert/strict';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { O_CLOEXEC, O_DIRECTORY, O_PATH, O_RDONLY } from './arch.ts';
import { mknod, statAt, makeDevice } from './file.ts';
import {
  AT_RECURSIVE,
  MNT_DETACH,
  MOUNT_ATTR_RDONLY,
  MS_NODEV,
  MS_NOSUID,
  OPEN_TREE_CLONE,
  mount,
  mountSetattr,
  moveMount,
  openTree,
  readMountInfo,
  umount,
  umountAsync,
} from './mount.ts';
import { inNamespace, pinNamespaces, unpinNamespace } from './namespace.ts';
import { dialInNetns } from './socket.ts';
import { fgetxattr, lgetxattr, llistxattr, lremovexattr, lsetxattr } from './xattr.ts';

/** These need root, and a mount namespace of their own (test/run makes one). */
const folder = mkdtempSync(join(tmpdir(), 'sys-root-'));
after(() => rmSync(folder, { recursive: true }));

function isMounted(path: string): boolean {
  return readMountInfo().some((entry) => entry.mountPoint === path);
}

test('mount and umount a tmpfs with options', async () => {
  const target = join(folder, 'with space');
  mkdirSync(target);
  mount('shm', target, 'tmpfs', MS_NOSUID | MS_NODEV, 'mode=1777,size=65536');
  const entry = readMountInfo().find((found) => found.mountPoint === target);
  assert.match(entry?.options ?? '', /nosuid,nodev/);
  assert.match(entry?.superOptions ?? '', /size=64k/);
  umount(target, MNT_DETACH);
  assert.ok(!isMounted(target));
  assert.throws(() => umount(target), { code: 'EINVAL', path: target });
  await assert.rejects(umountAsync(target), { code: 'EINVAL', path: target, name: 'SysError' });
  await assert.rejects(umountAsync(join(folder, 'none')), { code: 'ENOENT' });
});

test('a mount tree is cloned, made read-only with all below it, and attached', () => {
  const [source, target] = [join(folder, 'source'), join(folder, 'target')];
  for (const path of [source, target]) mkdirSync(path);
  mount('t', source, 'tmpfs', 0);
  mkdirSync(join(source, 'below'));
  mount('u', join(source, 'below'), 'tmpfs', 0);
  const tree = openTree(undefined, source, OPEN_TREE_CLONE | AT_RECURSIVE);
  mountSetattr(tree, '', { set: MOUNT_ATTR_RDONLY, recursive: true });
  moveMount(tree, undefined, target);
  closeSync(tree);
  assert.throws(() => writeFileSync(join(target, 'x'), ''), { code: 'EROFS' });
  assert.throws(() => writeFileSync(join(target, 'below/x'), ''), { code: 'EROFS' });
  writeFileSync(join(source, 'below/x'), '');
  for (const path of [target, source]) umount(path, MNT_DETACH);
});

test('pinNamespaces makes namespaces that stay, and comes back', () => {
  const own = ['net', 'ipc', 'uts'].map((type) => readlinkSync(`/proc/self/ns/${type}`));
  const pins = (['network', 'ipc', 'uts'] as const).map((type) => ({ type, path: join(folder, type) }));
  pinNamespaces({
    pins,
    hostname: 'pinned',
    sysctls: [
      ['net.ipv4.ip_forward', '1'],
      ['kernel.shmmni', '4000'],
    ],
  });
  assert.deepEqual(
    ['net', 'ipc', 'uts'].map((type) => readlinkSync(`/proc/self/ns/${type}`)),
    own,
  );
  const [network, ipc, uts] = pins.map((pin) => pin.path);
  assert.ok(network !== undefined && ipc !== undefined && uts !== undefined);
  const readIn = (path: string, type: 'network' | 'ipc' | 'uts', file: string) =>
    inNamespace(path, type, () => readFileSync(file, 'utf8').trim());
  assert.equal(readIn(uts, 'uts', '/proc/sys/kernel/hostname'), 'pinned');
  assert.equal(readIn(ipc, 'ipc', '/proc/sys/kernel/shmmni'), '4000');
  assert.equal(readIn(network, 'network', '/proc/sys/net/ipv4/ip_forward'), '1');
  assert.match(readIn(network, 'network', '/proc/thread-self/net/dev'), /lo:/);
  for (const pin of pins) {
    unpinNamespace(pin.path);
    unpinNamespace(pin.path);
    assert.ok(!isMounted(pin.path));
  }
});

test('pinNamespaces leaves nothing behind when a sysctl is refused', () => {
  const path = join(folder, 'failed');
  assert.throws(
    () => pinNamespaces({ pins: [{ type: 'network', path }], sysctls: [['net.ipv4.nonexistent', '1']] }),
    /write sysctl "net.ipv4.nonexistent"/,
  );
  assert.ok(!isMounted(path));
  assert.throws(() => statSync(path), { code: 'ENOENT' });
});

test('dialInNetns reaches a port that listens inside only', async () => {
  const path = join(folder, 'dial');
  pinNamespaces({ pins: [{ type: 'network', path }] });
  const server = createServer((socket) => socket.end('hello from inside'));
  // Without an address it binds before it returns, so inside.
  inNamespace(path, 'network', () => server.listen(0));
  const { port } = server.address() as AddressInfo; // a TCP server's address is never a string
  const chunks: Buffer[] = [];
  for await (const chunk of dialInNetns(path, { host: '127.0.0.1', port })) chunks.push(chunk);
  assert.equal(Buffer.concat(chunks).toString(), 'hello from inside');
  await new Promise((resolve) => server.close(resolve));
  const refused = dialInNetns(path, { host: '127.0.0.1', port });
  const [error] = await new Promise<unknown[]>((resolve) => refused.once('error', (...args) => resolve(args)));
  assert.match(String(error), /ECONNREFUSED/);
  unpinNamespace(path);
});

test('extended attributes of files and links', () => {
  const target = join(folder, 'xattr');
  mkdirSync(target);
  mount('t', target, 'tmpfs', 0);
  const file = join(target, 'f');
  writeFileSync(file, '');
  assert.equal(lgetxattr(file, 'trusted.overlay.opaque'), undefined);
  lsetxattr(file, 'trusted.overlay.opaque', Buffer.from('y'));
  lsetxattr(file, 'trusted.big', Buffer.alloc(1000, 7));
  assert.deepEqual(lgetxattr(file, 'trusted.overlay.opaque'), Buffer.from('y'));
  assert.deepEqual(llistxattr(file).toSorted(), ['trusted.big', 'trusted.overlay.opaque']);
  const fd = openSync(file, O_RDONLY | O_CLOEXEC);
  assert.equal(fgetxattr(fd, 'trusted.big')?.length, 1000);
  closeSync(fd);
  lremovexattr(file, 'trusted.big');
  lremovexattr(file, 'trusted.big');
  assert.deepEqual(llistxattr(file), ['trusted.overlay.opaque']);
  assert.throws(() => lsetxattr(join(target, 'none'), 'trusted.x', Buffer.alloc(0)), { code: 'ENOENT' });
  umount(target, MNT_DETACH);
});

test('mknod makes devices', () => {
  const target = join(folder, 'dev');
  mkdirSync(target);
  mount('t', target, 'tmpfs', 0);
  mknod(join(target, 'null'), 0o020000 | 0o666, makeDevice(1, 3));
  const fd = openSync(target, O_PATH | O_DIRECTORY | O_CLOEXEC);
  const stat = statAt(fd, 'null');
  closeSync(fd);
  assert.deepEqual([stat.rdevMajor, stat.rdevMinor], [1, 3]);
  umount(target, MNT_DETACH);
});
