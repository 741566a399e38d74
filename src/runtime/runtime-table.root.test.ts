import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { silentLog } from '../base/log.ts';
import { defaultConfig, emptyHandler, type Config } from '../config/config.ts';
import { startReaper } from '../sys/reaper.ts';
import type { ContainerRuntime, CreateOptions } from './runtime.ts';
import { createRuntimeTable } from './runtime-table.ts';
import { createStage, processesOf } from './test-stage.ts';
import type { Stage } from './test-stage.ts';

const reaper = startReaper();
after(() => reaper[Symbol.dispose]());

/** Handlers by name: program and folder of state below the stage's. */
function configOf(stage: Stage, handlers: Readonly<Record<string, readonly [string, string]>>): Config {
  const config = defaultConfig();
  const runtimes = Object.entries(handlers).map(([name, [program, state]]) => {
    const paths = { runtimePath: `/usr/bin/${program}`, runtimeRoot: join(stage.folder, state) };
    return [name, { ...emptyHandler(), ...paths, monitorPath: stage.monitor.path }] as const;
  });
  return {
    ...config,
    runtime: {
      ...config.runtime,
      runtimes: new Map(runtimes),
      cgroupManager: 'cgroupfs',
      containerExitsDir: stage.monitor.exitsDir,
      containerAttachSocketDir: stage.monitor.attachSocketDir,
    },
  };
}

async function echo(stage: Stage, runtime: ContainerRuntime | undefined, bundle: CreateOptions): Promise<string> {
  const result = await runtime?.execSync(stage.call(), {
    id: bundle.id,
    process: { user: { uid: 0, gid: 0 }, env: ['PATH=/bin'], cwd: '/', args: ['echo', 'hi'] },
    timeoutMs: 5000,
    maxOutputBytes: 1000,
  });
  return Buffer.from(result?.stdout ?? '').toString();
}

test('a changed handler holds for new containers, and the others keep what they have', async () => {
  await using stage = await createStage('crun');
  const recordFile = join(stage.folder, 'handlers.json');
  const table = await createRuntimeTable({
    config: configOf(stage, { a: ['crun', 'state'] }),
    log: silentLog,
    processesOf,
    recordFile,
  });
  const a = table.runtimes.get('a');
  assert.ok(a !== undefined && table.runtimes.size === 1);
  const [old, unknown, young] = ['sleep', 'sleep', 'sleep'].map((name) => stage.bundle([name, '1000']));
  assert.ok(old !== undefined && unknown !== undefined && young !== undefined);
  await a.create(stage.call(), old);
  await a.start(stage.call(), old.id);
  // As an earlier daemon has left it: nothing but its state folder tells whose it is.
  await stage.runtime.create(stage.call(), unknown);
  await stage.runtime.start(stage.call(), unknown.id);

  await table.reload(configOf(stage, { a: ['runc', 'moved'], b: ['crun', 'state'] }));
  assert.deepEqual([...table.runtimes.keys()], ['a', 'b']);
  assert.equal(table.runtimes.get('a'), a);
  assert.match(a.features.version, /^runc/);
  await a.create(stage.call(), young);
  await a.start(stage.call(), young.id);
  assert.ok(existsSync(join(stage.folder, 'moved', young.id)));
  for (const bundle of [old, unknown, young]) assert.equal(await echo(stage, a, bundle), 'hi\n');

  await table.reload(configOf(stage, { b: ['crun', 'state'] }));
  for (const bundle of [old, unknown, young]) {
    assert.equal(await echo(stage, a, bundle), 'hi\n');
    await a.delete(stage.call(), bundle.id);
  }
  assert.ok(!existsSync(join(stage.folder, 'moved', young.id)));
  assert.ok(!existsSync(join(stage.folder, 'state', old.id)));
});

test('a handler that was taken out while no daemon ran stays for the containers it has', async () => {
  await using stage = await createStage('runc');
  const recordFile = join(stage.folder, 'run', 'handlers.json');
  const daemon = (handlers: Parameters<typeof configOf>[1]) =>
    createRuntimeTable({ config: configOf(stage, handlers), log: silentLog, processesOf, recordFile });
  const bundle = stage.bundle(['sleep', '1000']);
  const before = (await daemon({ gone: ['runc', 'state'], stays: ['crun', 'other'] })).runtimes.get('gone');
  await before?.create(stage.call(), bundle);
  await before?.start(stage.call(), bundle.id);

  const { runtimes } = await daemon({ stays: ['crun', 'other'] });
  assert.equal(await echo(stage, runtimes.get('gone'), bundle), 'hi\n');
  // Another program has its name now.
  const renamed = (await daemon({ gone: ['crun', 'other'] })).runtimes.get('gone');
  assert.match(renamed?.features.version ?? '', /^crun/);
  assert.equal(await echo(stage, renamed, bundle), 'hi\n');
  await renamed?.delete(stage.call(), bundle.id);
  assert.deepEqual([...(await daemon({ stays: ['crun', 'other'] })).runtimes.keys()], ['stays']);
  writeFileSync(recordFile, '[{"handler":1},null,"x"');
  assert.deepEqual([...(await daemon({ stays: ['crun', 'other'] })).runtimes.keys()], ['stays']);
});
