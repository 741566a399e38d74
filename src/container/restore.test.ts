import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CrioError } from '../base/errors.ts';
import type { Container } from './container.ts';
import { containerConfig, FakeHost, podConfig } from './fakes.ts';

const podId = 'a'.repeat(64);

async function create(host: FakeHost): Promise<Container> {
  return host.require(await host.containers.create(host.call(), { podId, config: containerConfig(), podConfig }));
}

async function restore(host: FakeHost, ...failures: Error[]): Promise<void> {
  host.failState.push(...failures);
  const report = await host.startDaemon().restore(host.call());
  assert.deepEqual(report.quarantined, []);
}

const transient = () => new Error('fork: resource temporarily unavailable');
const hung = () => new CrioError('deadline', 'state container "x": did not end within 30 s');

test('a runtime that fails once is asked again', async () => {
  using host = new FakeHost();
  const { id } = await create(host);
  await restore(host, transient(), transient());
  assert.equal(host.require(id).state.status, 'created');
});

test('a container of which the runtime tells nothing is listed as unknown and can be stopped', async () => {
  using host = new FakeHost();
  const { id } = await create(host);
  const process = host.process(id);
  await restore(host, transient(), transient(), transient());
  assert.deepEqual(
    host.containers.list({ statuses: ['unknown'] }).map((container) => container.id),
    [id],
  );
  await host.containers.stop(host.call(), id, 5000);
  assert.deepEqual(process.signals, [15]);
  assert.equal(host.require(id).state.status, 'stopped');
  await host.containers.remove(host.call(), id);
  assert.equal(host.records.has(id), false);
});

test('an unknown container without a known process is ended by its runtime', async () => {
  using host = new FakeHost();
  const { id, directory } = await create(host);
  host.removeFile(`${directory}/state.json`);
  await restore(host, hung());
  assert.equal(host.require(id).state.status, 'unknown');
  assert.equal(host.calls.filter((text) => text === `state ${id}`).length, 1);
  await host.containers.remove(host.call(), id);
  assert.equal(host.containers.find(id), undefined);
  assert.equal(host.byContainer.has(id), false);
  assert.equal(host.records.has(id), false);
});

test('an unknown container that ignores its signal is killed', async () => {
  using host = new FakeHost();
  const { id } = await create(host);
  host.process(id).onSignal = undefined;
  await restore(host, hung());
  await host.containers.stop(host.call(), id, 0);
  assert.equal(host.require(id).state.exitCode, 137);
});

test('restore unmounts what a crash after the end left mounted', async () => {
  using host = new FakeHost();
  const { id } = await create(host);
  await host.containers.stop(host.call(), id, 0);
  host.mounted.add(id);
  writeFileSync(`${host.root}/exits/${id}`, '137');
  await restore(host);
  for (let left = 200; host.mounted.has(id) && left > 0; left -= 1) await sleep(5);
  assert.equal(host.mounted.has(id), false);
});
