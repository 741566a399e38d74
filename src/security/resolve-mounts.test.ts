import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ContainerMount, MountPropagation } from '../container/config.ts';
import { parseMountInfo } from '../sys/mount.ts';
import { mountHolding, type MountsRequest, resolveMounts } from './resolve-mounts.ts';

const folder = mkdtempSync(join(tmpdir(), 'mounts-'));
after(() => rmSync(folder, { recursive: true }));

const mountInfo = parseMountInfo(
  [
    '1 0 8:1 / / rw shared:1 - ext4 /dev/a rw',
    '2 1 8:2 / /private rw - ext4 /dev/b rw',
    '3 1 8:3 / /slave rw master:7 - ext4 /dev/c rw',
    '4 2 8:4 / /private/below rw shared:9 - ext4 /dev/d rw',
    '5 2 8:4 / /private/below rw - ext4 /dev/d rw',
  ].join('\n'),
);

function mountOf(change: Partial<ContainerMount>): ContainerMount {
  return {
    containerPath: '/in',
    hostPath: folder,
    readonly: false,
    selinuxRelabel: false,
    propagation: MountPropagation.private,
    uidMappings: [],
    gidMappings: [],
    recursiveReadOnly: false,
    image: undefined,
    imageSubPath: '',
    mountOptions: [],
    ...change,
  };
}

function resolve(mount: Partial<ContainerMount> | Partial<ContainerMount>[], change: Partial<MountsRequest> = {}) {
  const mounts = [mount].flat().map(mountOf);
  const runtime = { recursiveReadOnlyMounts: true, idmapMounts: false };
  return resolveMounts({
    mounts,
    prefix: '',
    rejectAbsent: [],
    storageRoot: '/var/lib/storage',
    mountInfo,
    runtime,
    ...change,
  });
}

async function optionsOf(
  mount: Partial<ContainerMount>,
  change: Partial<MountsRequest> = {},
): Promise<string | undefined> {
  const { binds } = await resolve(mount, change);
  return binds[0]?.options?.join(' ');
}

test('resolveMounts orders the options as CRI-O does', async () => {
  assert.equal(await optionsOf({}), 'rbind rprivate rw bind');
  assert.equal(
    await optionsOf({ readonly: true, propagation: MountPropagation.hostToContainer }),
    'rbind rslave ro bind',
  );
  assert.equal(await optionsOf({ propagation: MountPropagation.bidirectional }), 'rbind rshared rw bind');
  assert.equal(await optionsOf({ readonly: true, recursiveReadOnly: true }), 'rbind rprivate rro bind');
});

test('resolveMounts makes a missing source a directory, unless that is refused', async () => {
  const hostPath = join(folder, 'new/deep');
  await assert.rejects(resolve({ hostPath }, { rejectAbsent: [hostPath] }), {
    message: `cannot mount ${hostPath}: path does not exist and will cause issues as a directory`,
  });
  await resolve({ hostPath });
  assert.equal(statSync(hostPath).mode & 0o777, 0o755);
});

test('resolveMounts follows a link in the last part of a source, below the prefix', async () => {
  const prefix = join(folder, 'host');
  mkdirSync(join(prefix, 'target'), { recursive: true });
  symlinkSync(join(prefix, 'target'), join(prefix, 'link'));
  const { binds, volumes } = await resolve({ hostPath: '/link' }, { prefix });
  assert.equal(binds[0]?.source, join(prefix, 'target'));
  assert.equal(volumes[0]?.hostPath, join(prefix, 'target'));
});

test('resolveMounts refuses empty paths', async () => {
  await assert.rejects(resolve({ containerPath: '' }), { message: 'mount.ContainerPath is empty' });
  await assert.rejects(resolve({ hostPath: '' }), { message: 'mount.HostPath is empty' });
});

test('resolveMounts asks for a mount that can propagate', async () => {
  mkdirSync(join(folder, 'private'));
  const here = [
    `1 0 8:1 / / rw shared:1 - ext4 a rw`,
    `2 1 8:2 / ${folder}/private rw - ext4 b rw`,
    `3 1 8:3 / ${folder}/slave rw master:7 - ext4 c rw`,
  ];
  const at = (name: string, propagation: MountPropagation) =>
    resolve({ hostPath: join(folder, name), propagation }, { mountInfo: parseMountInfo(here.join('\n')) });
  const where = `path "${folder}/private" is mounted on "${folder}/private" but it is not a shared`;
  await assert.rejects(at('private', MountPropagation.bidirectional), { message: `${where} mount` });
  await assert.rejects(at('private', MountPropagation.hostToContainer), { message: `${where} or slave mount` });
  await assert.rejects(at('slave', MountPropagation.bidirectional), /is not a shared mount/);
  assert.equal((await at('slave', MountPropagation.hostToContainer)).rootfsPropagation, 'rslave');
});

test('resolveMounts lets rshared win for the root file system', async () => {
  const { rootfsPropagation } = await resolve([
    { containerPath: '/a', propagation: MountPropagation.hostToContainer },
    { containerPath: '/b', propagation: MountPropagation.bidirectional },
  ]);
  assert.equal(rootfsPropagation, 'rshared');
});

test('what holds the storage is mounted as a slave', async () => {
  assert.equal(await optionsOf({}, { storageRoot: join(folder, 'storage') }), 'rbind rslave rw bind');
  assert.equal(await optionsOf({}, { storageRoot: folder }), 'rbind rslave rw bind');
  const isPrivate = parseMountInfo('1 0 8:1 / / rw - ext4 a rw');
  assert.equal(await optionsOf({}, { storageRoot: folder, mountInfo: isPrivate }), 'rbind rprivate rw bind');
});

test("recursive read-only mounts have CRI-O's conditions", async () => {
  const runtime = { recursiveReadOnlyMounts: false, idmapMounts: false };
  await assert.rejects(resolve({ recursiveReadOnly: true, readonly: true }, { runtime }), {
    message: `recursive read-only mount support is not available for hostPath "${folder}"`,
  });
  await assert.rejects(resolve({ recursiveReadOnly: true }), {
    message: `recursive read-only mount conflicts with read-write mount for hostPath "${folder}"`,
  });
  await assert.rejects(
    resolve({ recursiveReadOnly: true, readonly: true, propagation: MountPropagation.bidirectional }),
    {
      message: `recursive read-only mount requires private propagation for hostPath "${folder}", got: PROPAGATION_BIDIRECTIONAL`,
    },
  );
});

test('id-mapped mounts need a runtime that knows them', async () => {
  const uidMappings = [{ containerId: 0, hostId: 1000, size: 1 }];
  await assert.rejects(resolve({ uidMappings }), /idmap mounts specified but OCI runtime does not support them/);
  const { binds } = await resolve({ uidMappings }, { runtime: { recursiveReadOnlyMounts: true, idmapMounts: true } });
  assert.equal(binds[0]?.options?.at(-1), 'idmap');
  assert.deepEqual(binds[0]?.uidMappings, [{ containerID: 0, hostID: 1000, size: 1 }]);
});

test('status shows the mounts in the order of the request', async () => {
  writeFileSync(join(folder, 'file'), '');
  const { binds, volumes } = await resolve([
    { containerPath: '/a/b' },
    { containerPath: '/c', hostPath: join(folder, 'file') },
  ]);
  assert.deepEqual(
    binds.map(({ destination }) => destination),
    ['/c', '/a/b'],
  );
  assert.deepEqual(
    volumes.map(({ containerPath }) => containerPath),
    ['/a/b', '/c'],
  );
});

test('mountHolding takes the longest mount point, and of several the last', () => {
  assert.equal(mountHolding('/private/below/x', mountInfo)?.id, 5);
  assert.equal(mountHolding('/privates', mountInfo)?.id, 1);
  assert.equal(mountHolding('/private', mountInfo)?.id, 2);
});
