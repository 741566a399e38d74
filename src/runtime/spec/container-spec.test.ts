import assert from 'node:assert/strict';
import { test } from 'node:test';
import { containerInput } from '../../../test/golden/inputs.ts';
import type { ContainerConfig, ContainerSecurityContext } from '../../container/config.ts';
import { capabilityNames } from '../../sys/process.ts';
import { buildContainerSpec } from './container-spec.ts';
import type { ContainerSpecInput } from './input.ts';
import type { Mount, Spec } from './oci.ts';

const plain = containerInput('plain');

function build(
  change: Partial<ContainerSpecInput> & {
    readonly asked?: Partial<ContainerConfig>;
    readonly context?: Partial<ContainerSecurityContext>;
  },
): Spec {
  const { asked, context, ...rest } = change;
  const securityContext = plain.config.securityContext;
  assert.ok(securityContext);
  return buildContainerSpec({
    ...plain,
    config: { ...plain.config, ...asked, securityContext: { ...securityContext, ...context } },
    ...rest,
  });
}

function mountAt(spec: Spec, destination: string): Mount | undefined {
  const found = spec.mounts?.filter((mount) => mount.destination === destination) ?? [];
  assert.ok(found.length <= 1, `${destination} is mounted twice`);
  return found[0];
}

function bindAt(destination: string, source = `/src${destination}`): Mount {
  return { destination, type: 'bind', source, options: ['rbind', 'rprivate', 'rw', 'bind'] };
}

function withBinds(...binds: Mount[]): Partial<ContainerSpecInput> {
  return { mounts: { images: [], binds, rootfsPropagation: undefined, volumes: [] } };
}

test('a privileged container may write everywhere and hides nothing', () => {
  const spec = build({ context: { privileged: true }, host: { ...plain.host, boundingCapabilities: capabilityNames } });
  assert.deepEqual(spec.process?.capabilities?.ambient, capabilityNames);
  assert.equal(spec.linux?.maskedPaths, undefined);
  assert.equal(spec.linux?.readonlyPaths, undefined);
  assert.ok(
    spec.mounts?.every(({ source, options }) => source?.startsWith('/srv/golden') || options?.includes('ro') !== true),
  );
  assert.deepEqual(mountAt(spec, '/sys')?.options?.slice(-2), ['rw', 'rslave']);
  assert.equal(spec.process?.apparmorProfile, undefined);
});

test('a capability the daemon lacks is not given to a privileged container', () => {
  const spec = build({ context: { privileged: true } });
  assert.ok(!spec.process?.capabilities?.bounding?.includes('CAP_SYS_RESOURCE'));
});

test('mounts of the request replace those of the template, with all below /dev and /sys', () => {
  const spec = build(withBinds(bindAt('/dev'), bindAt('/sys'), bindAt('/etc/hostname')));
  assert.equal(mountAt(spec, '/dev/pts'), undefined);
  assert.equal(mountAt(spec, '/sys/fs/cgroup'), undefined);
  assert.equal(mountAt(spec, '/dev')?.source, '/src/dev');
  assert.equal(mountAt(spec, '/etc/hostname')?.source, '/src/etc/hostname');
});

test('binds, image volumes and secrets are mounted by depth', () => {
  const spec = build({
    ...withBinds(bindAt('/a/b/c'), bindAt('/a')),
    prepared: {
      users: [],
      imageVolumes: [bindAt('/a/b')],
      secrets: [bindAt('/run/secrets')],
      localtime: [bindAt('/etc/localtime')],
    },
  });
  assert.deepEqual(
    spec.mounts?.slice(-5).map(({ destination }) => destination),
    ['/a', '/a/b', '/run/secrets', '/a/b/c', '/etc/localtime'],
  );
});

test('a container of the host network sees its sysfs and hosts file', () => {
  const pod = { ...plain.pod, hostNetwork: true };
  const spec = build({ pod, ...withBinds() });
  assert.equal(mountAt(spec, '/sys')?.type, 'sysfs');
  assert.equal(mountAt(spec, '/etc/hosts')?.source, '/etc/hosts');
  assert.ok(!spec.linux?.namespaces?.some(({ type }) => type === 'network'));
  const inUserns = build({ pod: { ...pod, namespacePaths: new Map([...pod.namespacePaths, ['user', '/u']]) } });
  assert.deepEqual(mountAt(inUserns, '/sys')?.options?.slice(0, 2), ['rbind', 'rro']);
});

test('a read-only root file system makes the files of the pod read-only', () => {
  const spec = build({ context: { readonlyRootfs: true } });
  assert.equal(spec.root?.readonly, true);
  assert.equal(mountAt(spec, '/etc/resolv.conf')?.options?.[0], 'ro');
  assert.equal(mountAt(spec, '/tmp'), undefined);
});

test('the option read_only leaves scratch folders, but not for privileged containers', () => {
  const settings = { ...plain.settings, readOnly: true };
  const spec = build({ settings, ...withBinds(bindAt('/tmp')) });
  assert.equal(spec.root?.readonly, true);
  assert.equal(mountAt(spec, '/tmp')?.type, 'bind');
  assert.equal(mountAt(spec, '/var/tmp')?.type, 'tmpfs');
  assert.equal(build({ settings, context: { privileged: true } }).root?.readonly, undefined);
});

test('systemd gets what it expects', () => {
  const spec = build({ asked: { command: ['/sbin/init'] }, ...withBinds(bindAt('/run')) });
  assert.equal(mountAt(spec, '/run')?.type, 'bind');
  assert.equal(mountAt(spec, '/run/lock')?.type, 'tmpfs');
  assert.equal(mountAt(spec, '/sys/fs/cgroup/systemd')?.type, 'bind');
  assert.ok(spec.linux?.maskedPaths?.includes('/sys/fs/cgroup/systemd/release_agent'));
  assert.ok(spec.process?.env?.includes('container=crio'));
  const onV2 = build({ asked: { command: ['/sbin/init'] }, host: { ...plain.host, cgroupV2: true } });
  assert.deepEqual(mountAt(onV2, '/sys/fs/cgroup')?.options, ['private', 'rw']);
});

test('on cgroup v2 only an unprivileged container has a cgroup namespace', () => {
  const host = { ...plain.host, cgroupV2: true };
  const has = (spec: Spec) => spec.linux?.namespaces?.some(({ type }) => type === 'cgroup');
  assert.equal(has(build({ host })), true);
  assert.equal(has(build({ host, context: { privileged: true } })), false);
});

test('no arguments at all is an error', () => {
  const image = { ...plain.image, config: { ...plain.image.config, cmd: [] } };
  assert.throws(() => build({ asked: { command: [] }, image }), { message: 'no command specified' });
});

test('a NUL byte in an argument or variable is refused', () => {
  assert.throws(() => build({ asked: { command: ['a\0b'] } }), /contains a NUL byte/);
  assert.throws(() => build({ asked: { envs: [{ key: 'A', value: 'x\0y' }] } }), /contains a NUL byte/);
});

test('umask comes from its annotation', () => {
  assert.equal(build({ annotations: new Map([['umask.crio.io', '027']]) }).process?.user.umask, 0o27);
  assert.throws(() => build({ annotations: new Map([['umask.crio.io', '8']]) }), /invalid umask/);
});

test('no label or annotation passes for a record of the daemon', () => {
  const forged = new Map([
    ['io.kubernetes.cri-o.SandboxID', 'forged'],
    ['io.kubernetes.cri-o.IP.7', 'forged'],
    ['io.container.manager', 'forged'],
    ['spoofed.crio.io', 'true'],
    ['__proto__', 'forged'],
  ]);
  const annotations = build({ annotations: forged, asked: { labels: forged } }).annotations ?? {};
  assert.ok(!Object.values(annotations).includes('forged'));
  assert.equal(annotations['spoofed.crio.io'], undefined);
});

test('CVE-2026-53488: a label is no way around the allow list of annotations', () => {
  const labels = new Map([
    ['run.oci.seccomp_bpf_data', 'x'],
    ['org.systemd.property.ExecStart', 'x'],
    ['app', 'x'],
  ]);
  const annotations = build({ asked: { labels } }).annotations ?? {};
  assert.deepEqual(
    ['run.oci.seccomp_bpf_data', 'org.systemd.property.ExecStart', 'app'].map((key) => annotations[key]),
    [undefined, undefined, 'x'],
  );
});

test('with systemd the unit gets its properties', () => {
  const annotations = new Map([['io.kubernetes.pod.terminationGracePeriod', '30']]);
  const pod = { ...plain.pod, cgroupParent: 'kubepods.slice' };
  const spec = build({ annotations, pod, settings: { ...plain.settings, cgroupManager: 'systemd' } });
  assert.equal(spec.annotations?.['org.systemd.property.TimeoutStopUSec'], 'uint64 30000000');
  assert.equal(spec.linux?.cgroupsPath, `kubepods.slice:crio:${plain.id}`);
});
