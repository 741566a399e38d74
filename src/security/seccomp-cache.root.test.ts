import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { silentLog } from '../base/log.ts';
import type { CreateOptions } from '../runtime/runtime.ts';
import { convertProfile } from '../runtime/spec/convert-seccomp.ts';
import type { Spec } from '../runtime/spec/oci.ts';
import { run } from '../../test/fixtures/process.ts';
import { defaultProfile } from '../runtime/spec/seccomp-default.ts';
import { createStage, type Stage } from '../runtime/test-stage.ts';
import { startReaper } from '../sys/reaper.ts';
import { SeccompCache, testedVersions } from './seccomp-cache.ts';

/** Filters of the real crun. Root, and mount and network namespaces of their own. */
const reaper = startReaper();
after(() => reaper[Symbol.dispose]());

const key = 'run.oci.seccomp_bpf_data';
const [crunVersion = ''] = run('crun', ['--version']).split('\n');
const needsTested = testedVersions.test(crunVersion) ? {} : { skip: `filters are not handed to ${crunVersion}` };

interface Made extends CreateOptions {
  readonly usesCache: boolean;
  readonly initPid: number;
  readonly spec: Spec;
}

async function create(stage: Stage, cache: SeccompCache, noNewPrivileges = false): Promise<Made> {
  let made: Spec | undefined;
  let annotations: Readonly<Record<string, string>> | undefined;
  const name = `test${performance.now()}`;
  const options = stage.bundle(['sleep', '1000'], (spec) => {
    const seccomp = convertProfile(defaultProfile, { architecture: 'amd64', capabilities: [] });
    assert.ok(spec.process !== undefined && spec.linux !== undefined && seccomp !== undefined);
    spec.process.noNewPrivileges = noNewPrivileges;
    spec.linux.seccomp = seccomp;
    const { version } = stage.runtime.features;
    annotations = cache.annotationFor(name, spec, { version, path: stage.command.path });
    spec.annotations = { ...annotations };
    made = spec;
  });
  const { init } = await stage.runtime.create(stage.call(), options);
  cache.created(name, join(stage.command.root, options.id));
  assert.ok(made);
  return { ...options, usesCache: annotations !== undefined, initPid: init.pid, spec: made };
}

function modeOf(pid: number | string): string | undefined {
  return /^Seccomp:\s*(\d)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
}

async function execute(
  stage: Stage,
  container: Made,
  args: readonly string[],
): Promise<{ code: number; output: string }> {
  const { process } = container.spec;
  assert.ok(process);
  const result = await stage.runtime.execSync(stage.call(), {
    id: container.id,
    process: { ...process, terminal: false, args: [...args] },
    timeoutMs: 10_000,
    maxOutputBytes: 100_000,
  });
  return { code: result.exitCode, output: Buffer.concat([result.stdout, result.stderr]).toString() };
}

test('a cached filter is in force on init and on exec, before and after the start', needsTested, async () => {
  const cache = new SeccompCache(silentLog);
  await using stage = await createStage('crun');
  const [first, second] = [await create(stage, cache), await create(stage, cache)];
  assert.deepEqual([first.usesCache, second.usesCache], [false, true]);
  const filterOf = ({ id }: Made) => readFileSync(join(stage.command.root, id, 'seccomp.bpf'));
  assert.ok(filterOf(first).equals(filterOf(second)));
  for (const container of [first, second]) {
    assert.equal(modeOf(container.initPid), '2');
    await stage.runtime.start(stage.call(), container.id);
    assert.equal(modeOf(container.initPid), '2');
    const status = await execute(stage, container, ['cat', '/proc/self/status']);
    assert.match(status.output, /^Seccomp:\s*2$/m);
    const unshare = await execute(stage, container, ['busybox', 'unshare', '-m', 'true']);
    assert.match(unshare.output, /Function not implemented/);
  }
});

test('with no_new_privs the cached filter is in force after the start', needsTested, async () => {
  const cache = new SeccompCache(silentLog);
  await using stage = await createStage('crun');
  await create(stage, cache, true);
  const second = await create(stage, cache, true);
  assert.ok(second.usesCache);
  await stage.runtime.start(stage.call(), second.id);
  const status = await execute(stage, second, ['cat', '/proc/self/status']);
  assert.match(status.output, /^Seccomp:\s*2$/m);
  assert.match(readFileSync(`/proc/${second.initPid}/status`, 'utf8'), /^NoNewPrivs:\s*1\nSeccomp:\s*2$/m);
});

test('a crun that was not tested is never given a filter', { skip: testedVersions.test(crunVersion) }, async () => {
  const cache = new SeccompCache(silentLog);
  await using stage = await createStage('crun');
  await create(stage, cache);
  assert.equal((await create(stage, cache)).usesCache, false);
});

test('runc is never given a filter', async () => {
  const cache = new SeccompCache(silentLog);
  await using stage = await createStage('runc');
  await create(stage, cache);
  assert.equal((await create(stage, cache)).usesCache, false);
});

test('a container whose filter is another one than it was given does not come to be', needsTested, async () => {
  const cache = new SeccompCache(silentLog);
  await using stage = await createStage('crun');
  const first = await create(stage, cache);
  const { version } = stage.runtime.features;
  const identity = { version, path: stage.command.path };
  assert.ok(cache.annotationFor('victim', first.spec, identity)?.[key]);
  assert.throws(() => cache.created('victim', join(stage.command.root, 'none')), /is not in force/);
  assert.equal(cache.annotationFor('next', first.spec, identity), undefined);
});
