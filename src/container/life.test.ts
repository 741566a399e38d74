import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Container } from './container.ts';
import { containerConfig, FakeHost, podConfig } from './fakes.ts';

const podId = 'a'.repeat(64);

async function create(host: FakeHost, name = 'main'): Promise<Container> {
  const config = containerConfig({ metadata: { name, attempt: 0 } });
  const id = await host.containers.create(host.call(), { podId, config, podConfig });
  return host.require(id);
}

async function run(host: FakeHost, name = 'main'): Promise<Container> {
  const container = await create(host, name);
  await host.containers.start(host.call(), container.id);
  return container;
}

function savedState(host: FakeHost, id: string): Record<string, unknown> {
  return JSON.parse(readFileSync(`${host.root}/containers/${id}/state.json`, 'utf8'));
}

test('a container goes from created to running to stopped to removed', async () => {
  using host = new FakeHost();
  const container = await create(host);
  assert.equal(container.state.status, 'created');
  assert.equal(container.name, 'k8s_main_pod_ns_uid_0');
  assert.equal(savedState(host, container.id)['status'], 'created');
  await host.containers.start(host.call(), container.id);
  assert.equal(container.state.status, 'running');
  const version = container.version;
  await host.containers.stop(host.call(), container.id, 5000);
  assert.equal(container.state.status, 'stopped');
  assert.equal(container.state.exitCode, 0);
  assert.ok(container.version > version);
  assert.equal(host.mounted.has(container.id), false);
  const saved = savedState(host, container.id);
  assert.equal(saved['status'], 'stopped');
  assert.equal(saved['exitCode'], 0);
  assert.equal('pid' in saved, false);
  await host.containers.remove(host.call(), container.id);
  assert.equal(host.containers.find(container.id), undefined);
  assert.equal(existsSync(container.directory), false);
  assert.deepEqual(
    host.events.map(({ type }) => type),
    ['created', 'started', 'stopped', 'deleted'],
  );
});

test('a plain process is signalled without the runtime', async () => {
  using host = new FakeHost();
  const { id } = await run(host);
  const process = host.process(id);
  await host.containers.stop(host.call(), id, 5000);
  assert.deepEqual(process.signals, [15]);
  assert.equal(host.calls.includes(`kill ${id}`), false);
});

test('a container that ignores its signal is killed when the grace period is over', async () => {
  using host = new FakeHost();
  const { id, state } = await run(host);
  const process = host.process(id);
  process.onSignal = undefined;
  await host.containers.stop(host.call(), id, 50);
  assert.deepEqual(process.signals, [15, 9]);
  assert.equal(state.exitCode, 137);
});

test('a later stop shortens the grace period and never prolongs it', async () => {
  using host = new FakeHost();
  const { id } = await run(host);
  host.process(id).onSignal = undefined;
  const began = performance.now();
  const patient = host.containers.stop(host.call(), id, 60_000);
  const hasty = host.containers.stop(host.call(), id, 40);
  const late = host.containers.stop(host.call(), id, 60_000);
  await Promise.all([patient, hasty, late]);
  assert.ok(performance.now() - began < 5000);
  assert.equal(host.containers.find(id)?.state.exitCode, 137);
});

test('a stop goes on when its caller has gone', async () => {
  using host = new FakeHost();
  const { id, state } = await run(host);
  host.process(id).onSignal = undefined;
  const caller = new AbortController();
  const stop = host.containers.stop(host.call(caller.signal), id, 30);
  caller.abort();
  await assert.rejects(stop, { kind: 'canceled' });
  await host.containers.stop(host.call(), id, 60_000);
  assert.equal(state.exitCode, 137);
});

test('a thousand stops of one container are one stop', async () => {
  using host = new FakeHost();
  const { id } = await run(host);
  const process = host.process(id);
  await Promise.all(Array.from({ length: 1000 }, () => host.containers.stop(host.call(), id, 1000)));
  assert.deepEqual(process.signals, [15]);
});

test('a young program without a handler gets its signal when it has set one', async () => {
  using host = new FakeHost();
  const { id, state } = await run(host);
  const process = host.process(id);
  process.hasHandler = false;
  setTimeout(() => (process.hasHandler = true), 30);
  await host.containers.stop(host.call(), id, 5000);
  assert.deepEqual(process.signals, [15]);
  assert.equal(state.exitCode, 0);
});

test('a created container is killed without waiting', async () => {
  using host = new FakeHost();
  const { id, state } = await create(host);
  await host.containers.stop(host.call(), id, 60_000);
  assert.equal(state.exitCode, 137);
  assert.equal(state.startedAtNs, 0n);
});

test('stopping or removing what is not there is success, and an empty id is an error', async () => {
  using host = new FakeHost();
  await host.containers.stop(host.call(), 'f00', 1);
  await host.containers.remove(host.call(), 'f00');
  await assert.rejects(host.containers.stop(host.call(), '', 1), { kind: 'not-found' });
  await assert.rejects(host.containers.stop(host.call(), podId, 1), { kind: 'not-found' });
  await assert.rejects(host.containers.start(host.call(), 'f00'), {
    kind: 'not-found',
    message: /could not find container/,
  });
});

test('an exit without a monitor is noticed with code 255', async () => {
  using host = new FakeHost();
  const { id, state } = await run(host);
  const process = host.process(id);
  process.isMonitored = false;
  host.startDaemon();
  await host.containers.restore(host.call());
  const restored = host.require(id);
  restored.state.monitor = undefined;
  host.end(id, 3);
  await host.containers.stop(host.call(), id, 60_000);
  assert.equal(restored.state.exitCode, 255);
  assert.ok(restored.state.finishedAtNs >= state.startedAtNs);
});

test('an exit whose notification was lost is read from the monitor file', async () => {
  using host = new FakeHost();
  const { id, state } = await run(host);
  host.writeExitFile(id, 4);
  writeFileSync(`${host.root}/containers/${id}/oom`, '');
  host.process(id).isMonitored = false;
  host.end(id, 4);
  await host.containers.stop(host.call(), id, 60_000);
  assert.equal(state.exitCode, 4);
  assert.equal(state.oomKilled, true);
});

test('a container that cannot be started is gone afterwards, and its name free', async () => {
  using host = new FakeHost();
  const { id } = await create(host);
  host.failStart = new Error('start: no');
  await assert.rejects(host.containers.start(host.call(), id), /start: no/);
  assert.equal(host.containers.find(id), undefined);
  assert.equal(host.records.has(id), false);
  host.failStart = undefined;
  await run(host);
});

test('a failed create leaves nothing behind', async () => {
  using host = new FakeHost();
  host.failCreate = new Error('container create failed: no such file');
  await assert.rejects(create(host), /container create failed: no such file/);
  assert.deepEqual([...host.records.keys()], [podId]);
  assert.equal(host.mounted.size, 0);
  assert.deepEqual(host.containers.list(), []);
});

test('a container that is being created is known by its id before its process is there', async () => {
  using host = new FakeHost();
  const gate = Promise.withResolvers<void>();
  host.createGate = gate.promise;
  const creation = create(host);
  const isCreating = (): boolean => host.calls.some((text) => text.startsWith('create'));
  while (!isCreating()) await new Promise((resolve) => setImmediate(resolve));
  const id = [...host.records.keys()].find((each) => each !== podId) ?? '';
  assert.equal(host.containers.find(id), undefined);
  assert.equal(host.containers.known(id)?.name, 'k8s_main_pod_ns_uid_0');
  host.failCreate = new Error('no');
  gate.resolve();
  await assert.rejects(creation, /no/);
  assert.equal(host.containers.known(id), undefined);
});

test('a second create with the same name joins the first and gets its container', async () => {
  using host = new FakeHost();
  const gate = Promise.withResolvers<void>();
  host.createGate = gate.promise;
  const caller = new AbortController();
  const first = host.containers.create(host.call(caller.signal), { podId, config: containerConfig(), podConfig });
  caller.abort();
  await assert.rejects(first, { kind: 'deadline', message: /container/ });
  assert.deepEqual(host.containers.list(), []);
  const second = create(host);
  gate.resolve();
  const container = await second;
  assert.equal((await create(host)).id, container.id);
  assert.equal(host.calls.filter((text) => text.startsWith('create')).length, 1);
});

test('a create for a name that is being removed waits and makes a new container', async () => {
  using host = new FakeHost();
  const first = await create(host);
  const removal = host.containers.remove(host.call(), first.id);
  const second = await create(host);
  await removal;
  assert.notEqual(second.id, first.id);
  assert.deepEqual(
    host.containers.list().map(({ id }) => id),
    [second.id],
  );
});

test('create refuses what CRI-O refuses, with its texts', async () => {
  using host = new FakeHost();
  const attempt = (change: object, id = podId) =>
    host.containers.create(host.call(), { podId: id, config: containerConfig(change), podConfig });
  await assert.rejects(attempt({}, 'b'), /^CrioError: specified sandbox not found: b: /);
  await assert.rejects(attempt({}, ''), /PodSandboxId should not be empty/);
  await assert.rejects(attempt({ image: 'missing' }), /missing/);
  await assert.rejects(attempt({ labels: new Map([['k'.repeat(4096), 'v']]) }), /4096 bytes\), key: kkkkkkkkkk$/);
  await assert.rejects(attempt({ logPath: '../../etc/passwd' }), /outside of the log directory/);
  await assert.rejects(attempt({ logPath: 'absent/0.log' }), /does not exist/);
  host.addPod('c'.repeat(64), { isReady: false });
  await assert.rejects(attempt({}, 'c'.repeat(64)), /CreateContainer failed as the sandbox was stopped/);
});

test('a restarted daemon finds running containers untouched and exits that happened meanwhile', async () => {
  using host = new FakeHost();
  const running = await run(host, 'running');
  const ended = await run(host, 'ended');
  const created = await create(host, 'created');
  host.containers[Symbol.dispose]();
  const process = host.process(ended.id);
  process.isMonitored = false;
  host.end(ended.id, 0);
  host.writeExitFile(ended.id, 7);
  host.startDaemon();
  const report = await host.containers.restore(host.call());
  assert.equal(report.restored, 3);
  const restored = host.require(running.id);
  assert.deepEqual({ ...restored, version: 0 }, { ...running, version: 0 });
  assert.equal(host.process(running.id).signals.length, 0);
  assert.equal(host.calls.includes(`state ${running.id}`), false);
  const seen = host.require(ended.id).state;
  assert.equal(seen.status, 'stopped');
  assert.equal(seen.exitCode, 7);
  assert.equal(host.require(created.id).state.status, 'created');
  await host.containers.start(host.call(), created.id);
});

test('restore removes what a crash left half-made and leaves damaged records alone', async () => {
  using host = new FakeHost();
  const halfMade = await create(host, 'half');
  const damaged = await create(host, 'damaged');
  const fine = await create(host, 'fine');
  host.removeFile(`${halfMade.directory}/config.json`);
  writeFileSync(`${damaged.directory}/config.json`, '{"ociVersion": "1.0');
  const report = await (() => host.startDaemon().restore(host.call()))();
  assert.deepEqual(report.removed, [halfMade.id]);
  assert.deepEqual(
    report.quarantined.map(({ id }) => id),
    [damaged.id],
  );
  assert.deepEqual(
    host.containers.list().map(({ id }) => id),
    [fine.id],
  );
  // The damaged one must not keep its name for good.
  await create(host, 'damaged');
  assert.equal(host.records.has(damaged.id), false);
});

test('restore removes what a removal that was cut short left outside of the storage', async () => {
  using host = new FakeHost();
  const { id } = await run(host);
  const other = await run(host, 'other');
  host.records.delete(id);
  for (const folder of ['runtime', 'attach']) mkdirSync(`${host.root}/${folder}`);
  for (const name of [id, other.id]) mkdirSync(`${host.root}/runtime/${name}`);
  writeFileSync(`${host.root}/exits/${id}`, '0');
  symlinkSync(`${host.root}/run/${id}`, `${host.root}/attach/${id}`);
  symlinkSync('/elsewhere', `${host.root}/attach/${'e'.repeat(64)}`);
  await host.startDaemon().restore(host.call());
  assert.deepEqual(
    host.calls.filter((text) => text.startsWith('delete')),
    [`delete ${id}`],
  );
  assert.deepEqual(readdirSync(`${host.root}/exits`), []);
  assert.deepEqual(readdirSync(`${host.root}/attach`), ['e'.repeat(64)]);
});

test('lists are newest first and filtered by id, pod, status and labels', async () => {
  using host = new FakeHost();
  const first = await create(host, 'first');
  const second = await run(host, 'second');
  const ids = (filter = {}) => host.containers.list(filter).map(({ id }) => id);
  assert.deepEqual(ids(), [second.id, first.id]);
  assert.deepEqual(ids({ id: first.id.slice(0, 20) }), [first.id]);
  assert.deepEqual(ids({ id: first.id, podId: 'b' }), []);
  assert.deepEqual(ids({ podId }), [second.id, first.id]);
  assert.deepEqual(ids({ podId: 'unknown' }), []);
  assert.deepEqual(ids({ statuses: ['running'] }), [second.id]);
  assert.deepEqual(ids({ labels: new Map([['app', 'y']]) }), []);
});

test('execSync takes the process of the container with other arguments, and none while it is being killed', async () => {
  using host = new FakeHost();
  const { id } = await run(host);
  const request = { command: ['echo', 'hi'], timeoutMs: 0 };
  const result = await host.containers.execSync(host.call(), id, request);
  assert.equal(Buffer.from(result.stdout).toString(), 'echo hi');
  await assert.rejects(
    host.containers.execSync(host.call(), id, { command: [], timeoutMs: 0 }),
    /exec command cannot be empty/,
  );
  const process = host.process(id);
  process.onSignal = undefined;
  const stop = host.containers.stop(host.call(), id, 0);
  await Promise.resolve().then(() => {});
  await assert.rejects(host.containers.execSync(host.call(), id, request), /container is being killed/);
  await stop;
  await assert.rejects(host.containers.execSync(host.call(), id, request), /container is not created or running/);
});

test('a container whose pod went down while it was created is undone', async () => {
  using host = new FakeHost();
  const gate = Promise.withResolvers<void>();
  host.createGate = gate.promise;
  const creation = create(host);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const pod = host.pods.get(podId);
  if (pod !== undefined) pod.isReady = false;
  gate.resolve();
  await assert.rejects(creation, /sandbox was stopped/);
  assert.deepEqual([...host.records.keys()], [podId]);
});

test('a container that is created while its pod is being stopped is undone', async () => {
  using host = new FakeHost();
  const gate = Promise.withResolvers<void>();
  host.createGate = gate.promise;
  const creation = create(host);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const pod = host.pods.get(podId);
  if (pod !== undefined) pod.isStopping = true;
  gate.resolve();
  await assert.rejects(creation, /sandbox was stopped/);
  assert.deepEqual([...host.records.keys()], [podId]);
});

test('pause and resume change a running container, and a stop resumes a paused one', async () => {
  using host = new FakeHost();
  const { id, state } = await run(host);
  await assert.rejects(host.containers.resume(host.call(), id), { kind: 'failed-precondition' });
  await host.containers.pause(host.call(), id);
  assert.equal(state.status, 'paused');
  await host.containers.resume(host.call(), id);
  await host.containers.pause(host.call(), id);
  await host.containers.stop(host.call(), id, 5000);
  assert.equal(state.exitCode, 0);
  assert.deepEqual(
    host.calls.map((text) => text.split(' ')[0]),
    ['create', 'start', 'pause', 'resume', 'pause', 'resume'],
  );
});

test('updateResources changes the status, not the file, and only of a container that has not ended', async () => {
  using host = new FakeHost();
  const { id, version } = await run(host);
  const before = readFileSync(`${host.root}/containers/${id}/config.json`, 'utf8');
  const resources = { ...noResources, cpuShares: 512, cpusetCpus: '0' };
  await host.containers.updateResources(host.call(), id, resources);
  const container = host.require(id);
  assert.equal(container.resources?.cpuShares, 512);
  assert.ok(container.version > version);
  assert.equal(readFileSync(`${host.root}/containers/${id}/config.json`, 'utf8'), before);
  await assert.rejects(
    host.containers.updateResources(host.call(), id, { ...noResources, memoryLimitBytes: -5 }),
    /invalid memory limit: -5 bytes \(cannot be negative\)/,
  );
  await host.containers.stop(host.call(), id, 1000);
  await assert.rejects(
    host.containers.updateResources(host.call(), id, resources),
    /is not running or created state: stopped/,
  );
});

test('a container whose monitor is gone while it runs is reported once', async () => {
  using host = new FakeHost();
  const lost: string[] = [];
  const { id } = await run(host);
  const other = await run(host, 'other');
  host.startDaemon({ onMonitorLost: ({ id: lostId }) => lost.push(lostId) });
  await host.containers.restore(host.call());
  host.killMonitor(id);
  await host.containers.checkMonitors();
  await host.containers.checkMonitors();
  assert.deepEqual(lost, [id]);
  await host.containers.remove(host.call(), other.id);
});

const noResources = {
  cpuPeriod: 0,
  cpuQuota: 0,
  cpuShares: 0,
  memoryLimitBytes: 0,
  oomScoreAdj: 0,
  cpusetCpus: '',
  cpusetMems: '',
  hugepageLimits: [],
  unified: new Map<string, string>(),
  memorySwapLimitBytes: 0,
};

test('what was done while another program hid the root file system is done anew, and only then', async () => {
  using host = new FakeHost();
  host.lostRoots = 2;
  const { id } = await create(host);
  assert.equal(host.lostRoots, 0);
  assert.deepEqual(
    host.calls.filter((call) => call.startsWith('create')),
    [`create ${id}`],
    'the runtime is not asked before the root file system was looked at undisturbed',
  );
  host.failCreate = new Error('executable file not found');
  await assert.rejects(create(host, 'other'), /executable file not found/);
  assert.equal(host.calls.filter((call) => call.startsWith('create')).length, 2, 'an error of the user is no reason');
});
