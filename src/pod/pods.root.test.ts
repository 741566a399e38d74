import assert from 'node:assert/strict';
import { existsSync, lstatSync, mkdirSync, readFileSync, rmSync, statSync, statfsSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Logger } from '../base/log.ts';
import { readMountInfo } from '../sys/mount.ts';
import { inNamespace } from '../sys/namespace.ts';
import type { NamespaceOptions, PodConfig } from './config.ts';
import type { Pod } from './pod.ts';
import { listOf, makeTestWorld, podConfig, testCall, traces, type TestWorld } from './test-world.ts';

/** Real namespaces, mounts, cgroups and CNI plugins; these need root and a mount and network namespace of their own. */

const nsfs = 0x6e736673;

function withNamespaces(name: string, changes: Partial<NamespaceOptions>, more: Partial<PodConfig> = {}): PodConfig {
  const base = podConfig(name, more);
  assert.ok(base.securityContext?.namespaceOptions);
  const namespaceOptions = { ...base.securityContext.namespaceOptions, ...changes };
  return { ...base, securityContext: { ...base.securityContext, namespaceOptions } };
}

async function runPod(world: TestWorld, config: PodConfig): Promise<Pod> {
  const id = await world.pods.run(testCall(), config, '');
  const pod = world.pods.find(id);
  assert.ok(pod);
  return pod;
}

test('a pod runs with namespaces, files, cgroup and network, and stop and remove take all of it back', async () => {
  await using world = await makeTestWorld();
  const pod = await runPod(world, podConfig('plain'));
  assert.equal(pod.isReady, true);
  assert.match(pod.ips[0] ?? '', /^10\.98\.0\.\d+$/);
  for (const type of ['network', 'ipc', 'uts'] as const) {
    assert.equal(statfsSync(pod.namespacePaths.get(type) ?? '').type, nsfs);
  }
  assert.equal(readFileSync(pod.resolvPath, 'utf8'), 'search a.b c\nnameserver 10.0.0.10\noptions ndots:5\n');
  assert.equal(readFileSync(pod.hostnamePath, 'utf8'), 'plain-host\n');
  assert.equal(statSync(pod.shmPath).mode & 0o7777, 0o1777);
  const shm = readMountInfo().find((entry) => entry.mountPoint === pod.shmPath);
  assert.deepEqual([shm?.source, shm?.superOptions.toString().includes('size=65536k')], ['shm', true]);
  assert.equal(pod.containerEnvPath, join(pod.runDirectory, '.containerenv'));
  const sysctl = inNamespace(pod.namespacePaths.get('network') ?? '', 'network', () =>
    readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'),
  );
  assert.equal(sysctl, '0\n');
  const uts = inNamespace(pod.namespacePaths.get('uts') ?? '', 'uts', () =>
    readFileSync('/proc/sys/kernel/hostname', 'utf8'),
  );
  assert.equal(uts, 'plain-host\n');
  assert.ok(existsSync(`${world.cgroups.hierarchies.controllers.get('memory')}/pods-root-test/crio-${pod.id}`));
  assert.deepEqual(listOf(pod.directory), ['config.json']);
  assert.deepEqual(listOf(pod.runDirectory).sort(), [
    '.containerenv',
    'config.json',
    'hostname',
    'resolv.conf',
    'shm',
    'state.json',
  ]);
  assert.deepEqual(
    readFileSync(join(pod.directory, 'config.json')),
    readFileSync(join(pod.runDirectory, 'config.json')),
  );
  assert.equal(statSync(join(pod.directory, 'config.json')).mode & 0o777, 0o644);
  assert.equal(lstatSync(join(world.folder, 'logs', pod.id)).mode & 0o777, 0o700);
  assert.deepEqual(
    world.events.map((event) => event.type),
    ['started'],
  );

  world.containers.set(pod.id, [
    { id: 'c1', isRunning: true },
    { id: 'c2', isRunning: false },
  ]);
  await world.pods.stop(testCall(), pod.id);
  assert.deepEqual(world.stopped, ['c1']);
  assert.equal(pod.isReady, false);
  assert.deepEqual(
    world.events.map((event) => event.type),
    ['started', 'stopped'],
  );
  assert.ok(existsSync(join(pod.runDirectory, 'stopped')));
  assert.ok(existsSync(join(pod.runDirectory, 'network-stopped')));
  assert.equal(JSON.parse(readFileSync(join(pod.runDirectory, 'state.json'), 'utf8')).status, 'stopped');
  await world.pods.stop(testCall(), pod.id);
  assert.deepEqual(world.stopped, ['c1']);

  await world.pods.remove(testCall(), pod.id);
  assert.deepEqual(world.removed, ['c1', 'c2']);
  assert.equal(world.pods.find(pod.id), undefined);
  await world.pods.remove(testCall(), pod.id);
  assert.deepEqual(traces(world), []);
});

test('removePod works on a running pod', async () => {
  await using world = await makeTestWorld();
  const pod = await runPod(world, podConfig('running'));
  await world.pods.remove(testCall(), pod.id.slice(0, 12));
  assert.deepEqual(traces(world), []);
});

test('a pod says that it is being stopped from the beginning, while plugins still run', async () => {
  await using world = await makeTestWorld();
  const pod = await runPod(world, podConfig('stopping'));
  const stop = world.pods.stop(testCall(), pod.id);
  await new Promise(setImmediate);
  assert.deepEqual([pod.isStopping, pod.isReady], [true, true]);
  await stop;
  assert.deepEqual([pod.isStopping, pod.isReady], [false, false]);
  await world.pods.remove(testCall(), pod.id);
});

test('a pod on the namespaces of the host has them pinned and no network of its own', async () => {
  await using world = await makeTestWorld({ network: false });
  const config = withNamespaces('hostns', { network: 2, pid: 2, ipc: 2 }, { hostname: '' });
  const pod = await runPod(world, config);
  assert.equal(pod.hostname, hostname());
  assert.equal(pod.shmPath, '/dev/shm');
  assert.equal(pod.privileged, true);
  assert.equal(pod.isNetworkStopped, true);
  const own = statSync('/proc/self/ns/net').ino;
  assert.equal(statSync(pod.namespacePaths.get('network') ?? '').ino, own);
  await world.pods.remove(testCall(), pod.id);
  assert.deepEqual(traces(world), []);
});

test('a pod with a user namespace owns its other namespaces and its files', async () => {
  await using world = await makeTestWorld();
  const mapping = [{ containerId: 0, hostId: 100_000, size: 65_536 }];
  const pod = await runPod(world, withNamespaces('userns', { userns: { mode: 0, uids: mapping, gids: mapping } }));
  assert.equal(statfsSync(pod.namespacePaths.get('user') ?? '').type, nsfs);
  assert.equal(statSync(pod.resolvPath).uid, 100_000);
  assert.equal(statSync(pod.shmPath).gid, 100_000);
  assert.equal(statSync(pod.containerEnvPath).uid, 0);
  const uts = inNamespace(pod.namespacePaths.get('uts') ?? '', 'uts', () =>
    readFileSync('/proc/sys/kernel/hostname', 'utf8'),
  );
  assert.equal(uts, 'userns-host\n');
  await world.pods.remove(testCall(), pod.id);
  assert.deepEqual(traces(world), []);
});

test('a pod that shares its PID namespace keeps its infra container', async () => {
  await using world = await makeTestWorld();
  const pod = await runPod(world, withNamespaces('shared', { pid: 0 }));
  assert.ok(pod.infra);
  assert.equal(pod.infraDropped, false);
  assert.deepEqual(world.runtime.calls, [`create ${pod.id}`, `start ${pod.id}`]);
  const state = JSON.parse(readFileSync(join(pod.directory, 'state.json'), 'utf8'));
  assert.equal(state.status, 'running');
  assert.equal(state.initPid, pod.infra.pid);
  const spec = JSON.parse(readFileSync(join(pod.runDirectory, 'config.json'), 'utf8'));
  assert.ok('io.kubernetes.cri-o.CNIResult' in spec.annotations);
  await world.pods.remove(testCall(), pod.id);
  assert.deepEqual(world.runtime.calls.slice(2), [`delete ${pod.id}`]);
  assert.deepEqual(traces(world), []);
});

test('the exit of the infra container makes its pod not ready', async () => {
  await using world = await makeTestWorld();
  const pod = await runPod(world, withNamespaces('exits', { pid: 0 }));
  const record = { containerId: pod.id, exitCode: 0, finishedAtNs: 1n, oomKilled: false };
  assert.equal(await world.pods.handleExit({ ...record, containerId: 'f'.repeat(64) }), false);
  assert.equal(await world.pods.handleExit(record), true);
  assert.equal(pod.isReady, false);
  assert.ok(existsSync(join(pod.directory, 'stopped')));
  const state = JSON.parse(readFileSync(join(pod.directory, 'state.json'), 'utf8'));
  assert.deepEqual([state.status, state.exitCode, state.pid], ['stopped', 0, undefined]);
  await world.pods.remove(testCall(), pod.id);
  assert.deepEqual(traces(world), []);
});

test('a second request for the same name gets the same pod', async () => {
  await using world = await makeTestWorld();
  const [first, second] = await Promise.all([1, 2].map(() => world.pods.run(testCall(), podConfig('twice'), '')));
  assert.equal(first, second);
  assert.equal(await world.pods.run(testCall(), podConfig('twice'), ''), first);
  assert.equal(world.pods.list().length, 1);
  await world.pods.remove(testCall(), first ?? '');
});

test('a caller that goes away does not end the creation, and its retry gets the pod', async () => {
  await using world = await makeTestWorld();
  const caller = new AbortController();
  const gone = world.pods.run(testCall({ signal: caller.signal }), podConfig('retry'), '');
  caller.abort();
  await assert.rejects(gone, /k8s_retry_default_uid-retry_0: still being created, at stage "/);
  assert.equal(world.pods.list().length, 0);
  const id = await world.pods.run(testCall(), podConfig('retry'), '');
  assert.equal(world.pods.list()[0]?.id, id);
  await world.pods.remove(testCall(), id);
  assert.deepEqual(traces(world), []);
});

test('a pod that waits for a network says why, in the log and to a caller that goes away', async () => {
  await using world = await makeTestWorld({ network: false });
  const lines: string[] = [];
  const log = new Logger({ level: 'warn', filter: undefined, format: 'text', write: (line) => lines.push(line) });
  const caller = new AbortController();
  const onStage = (stage: string) => void (stage === 'sandbox network ready' && setImmediate(() => caller.abort()));
  const gone = world.pods.run(testCall({ signal: caller.signal, onStage, log }), podConfig('early'), '');
  const why = /no CNI configuration file in .*net\.d\. Has your network provider started\?/;
  await assert.rejects(
    gone,
    (error: Error) => /stage "sandbox network ready"/.test(error.message) && why.test(error.message),
  );
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /Network of pod k8s_early_default_uid-early_0 is not ready: no CNI configuration file/);
});

test('a failure at any step leaves nothing behind and frees the name', async () => {
  await using world = await makeTestWorld();
  world.store.failMount = new Error('no mount today');
  await assert.rejects(world.pods.run(testCall(), podConfig('fails'), ''), /^Error: no mount today$/);
  assert.deepEqual(traces(world), []);
  world.store.failMount = undefined;
  world.runtime.failStart = new Error('no start today');
  await assert.rejects(world.pods.run(testCall(), withNamespaces('fails', { pid: 0 }), ''), /no start today/);
  assert.deepEqual(traces(world), []);
  await assert.rejects(
    world.pods.run(testCall(), podConfig('fails', { sysctls: new Map([['net.ipv4.no_such', '1']]) }), ''),
    /no_such/,
  );
  assert.deepEqual(traces(world), []);
  await assert.rejects(
    world.pods.run(testCall(), podConfig('fails'), 'nope'),
    /failed to find runtime handler nope from runtime list crun/,
  );
  const pod = await runPod(world, podConfig('fails'));
  await world.pods.remove(testCall(), pod.id);
  assert.deepEqual(traces(world), []);
});

test('a restarted daemon knows its pods again', async () => {
  await using world = await makeTestWorld();
  const running = await runPod(world, podConfig('one'));
  const stopped = await runPod(world, podConfig('two'));
  const shared = await runPod(world, withNamespaces('three', { pid: 0 }));
  await world.pods.stop(testCall(), stopped.id);
  const pods = await world.restart();
  const { settled, ...report } = await pods.restore(testCall());
  await settled;
  assert.deepEqual(report, { restored: 3, damaged: [], undone: [] });
  assert.deepEqual(
    pods.list().map((pod) => pod.id),
    [shared.id, stopped.id, running.id],
  );
  for (const before of [running, stopped, shared]) {
    const after = pods.find(before.id);
    assert.deepEqual({ ...after, spec: undefined }, { ...before, spec: undefined });
  }
  for (const pod of pods.list()) await pods.remove(testCall(), pod.id);
  assert.deepEqual(traces(world), []);
});

test('a damaged record becomes a pod that can be removed', async () => {
  await using world = await makeTestWorld();
  const pod = await runPod(world, podConfig('damaged'));
  for (const folder of [pod.directory, pod.runDirectory]) writeFileSync(join(folder, 'config.json'), '{"ociVer');
  const pods = await world.restart();
  const report = await pods.restore(testCall());
  assert.deepEqual(report.damaged, [pod.id]);
  const restored = pods.find(pod.id);
  assert.equal(restored?.isReady, false);
  assert.deepEqual(restored?.metadata, pod.metadata);
  await pods.remove(testCall(), pod.id);
  // Its cgroup's place stood in the file that is lost.
  assert.deepEqual(
    traces(world).filter((trace) => !trace.startsWith('crio-')),
    [],
  );
});

test('one copy of config.json is enough', async () => {
  await using world = await makeTestWorld();
  const pod = await runPod(world, podConfig('half'));
  writeFileSync(join(pod.directory, 'config.json'), '');
  const pods = await world.restart();
  assert.deepEqual((await pods.restore(testCall())).damaged, []);
  assert.equal(pods.find(pod.id)?.isReady, true);
  await pods.remove(testCall(), pod.id);
  assert.deepEqual(traces(world), []);
});

test('a pod that was being made when the daemon was killed is undone at the next start', async () => {
  await using world = await makeTestWorld();
  const pod = await runPod(world, podConfig('halfway'));
  const pending = join(world.folder, 'run/crio/pending-pods');
  mkdirSync(pending, { recursive: true });
  const namespacePaths = [...pod.namespacePaths.values()];
  const record = {
    version: 1,
    id: pod.id,
    namespacePaths,
    cgroup: `/pods-root-test/crio-${pod.id}`,
    shmPath: pod.shmPath,
  };
  writeFileSync(join(pending, `${pod.id}.json`), JSON.stringify(record));
  rmSync(join(pod.directory, 'config.json'));
  const pods = await world.restart();
  const report = await pods.restore(testCall());
  assert.deepEqual(report.undone, [pod.id]);
  assert.equal(pods.list().length, 0);
  await report.settled;
  assert.deepEqual(traces(world), []);
});

test('the stages are those of CRI-O', async () => {
  await using world = await makeTestWorld();
  const stages: string[] = [];
  const id = await world.pods.run(testCall({ onStage: (stage) => stages.push(stage) }), podConfig('stages'), '');
  assert.deepEqual(
    new Set(stages),
    new Set([
      'sandbox creating',
      'sandbox network ready',
      'sandbox storage creation',
      'sandbox namespace creation',
      'sandbox storage start',
      'sandbox spec configuration',
      'sandbox shm creation',
      'sandbox network creation',
      'sandbox container runtime creation',
    ]),
  );
  await world.pods.remove(testCall(), id);
});
