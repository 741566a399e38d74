import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../sys/run.ts';
import { makeTestWorld, podConfig, testCall, traces, type TestWorld } from './test-world.ts';

/** A daemon killed at any stage of a pod leaves nothing that the next one does not take away. As root, see pods.root.test.ts. */

const plugins = '/usr/lib/cni';

const stages = [
  'sandbox creating',
  'sandbox network ready',
  'sandbox storage creation',
  'sandbox namespace creation',
  'sandbox storage start',
  'sandbox spec configuration',
  'sandbox shm creation',
  'sandbox network creation',
  'sandbox container runtime creation',
];

async function crash(
  world: TestWorld,
  pluginDirs: string,
  { stage, afterMs = 0 }: { stage: string; afterMs?: number },
) {
  const child = await run({
    file: process.execPath,
    args: [join(import.meta.dirname, 'test-crash-child.ts'), world.folder, pluginDirs, stage, String(afterMs)],
    env: { PATH: process.env['PATH'] ?? '' },
    timeoutMs: 30_000,
  });
  assert.equal(child.signal, 9, child.stderr.toString());
}

async function recover(world: TestWorld): Promise<void> {
  const pods = await world.restart();
  const report = await pods.restore(testCall());
  await report.settled;
  await world.network.gc([], new AbortController().signal);
  assert.deepEqual(traces(world), []);
  // The name is free again.
  const id = await pods.run(testCall(), podConfig('crash'), '');
  await pods.remove(testCall(), id);
  assert.deepEqual(traces(world), []);
}

for (const stage of stages) {
  test(`a daemon killed at stage "${stage}" leaves nothing behind`, async () => {
    await using world = await makeTestWorld();
    await crash(world, plugins, { stage });
    await recover(world);
  });
}

test('a plugin that outlives its daemon does not add an interface after it was removed', async () => {
  await using world = await makeTestWorld();
  const slow = join(world.folder, 'plugins');
  const started = join(world.folder, 'started');
  mkdirSync(slow);
  writeFileSync(join(slow, 'bridge'), slowPlugin(started));
  chmodSync(join(slow, 'bridge'), 0o755);
  await crash(world, `${slow}:${plugins}`, { stage: 'sandbox network creation', afterMs: 300 });
  assert.ok(existsSync(started));
  await recover(world);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.deepEqual(traces(world), []);
});

/** ADD takes a second before it does its work. */
function slowPlugin(started: string): string {
  return `#!/bin/sh
if [ "$CNI_COMMAND" = ADD ]; then touch ${started}; sleep 1; fi
exec ${plugins}/bridge
`;
}
