import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { markRunning, markStopped, wasStoppedCleanly } from './clean-shutdown.ts';
import { silentLog } from '../base/log.ts';
import { saysOtherRelease, writeVersionFile } from './version-file.ts';
import { watchdogTimeoutMs } from './watchdog.ts';
import { wipeStale } from './wipe-stale.ts';

async function temporaryFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'crio-daemon-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

test('saysOtherRelease compares major and minor only, and takes everything else for another release', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'run', 'version');
  assert.equal(await saysOtherRelease('', '1.37.0+a'), false);
  assert.equal(await saysOtherRelease(path, '1.37.0+a'), true);
  await writeVersionFile(path, '1.37.0+a');
  assert.equal(await readFile(path, 'utf8'), '"1.37.0+a"');
  assert.equal(await saysOtherRelease(path, '1.37.9+b'), false);
  assert.equal(await saysOtherRelease(path, '1.38.0'), true);
  await writeFile(path, '1.37.0');
  assert.equal(await saysOtherRelease(path, '1.37.0'), true, 'not JSON');
});

test('a crash is a missing marker while the protocol is in force', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'clean.shutdown');
  assert.equal(await wasStoppedCleanly(path), true, 'first start ever');
  await markRunning(path);
  assert.equal(await wasStoppedCleanly(path), false);
  await markStopped(path);
  assert.equal(await wasStoppedCleanly(path), true);
});

test('wipeStale removes pods after a reboot, and their images too after an upgrade; one failure stops nothing', async () => {
  await using folder = await temporaryFolder();
  const [versionFile, versionFilePersist] = [join(folder.path, 'run'), join(folder.path, 'disk')];
  const wiped = async () => {
    const removed: string[] = [];
    await wipeStale({
      versionFile,
      versionFilePersist,
      version: '1.37.0+a',
      podIds: () => ['bad', 'pod'],
      async removePod(id) {
        if (id === 'bad') throw new Error('busy');
        removed.push(id);
      },
      usedImages: async () => ['image', 'image'],
      removeImage: async (id) => void removed.push(id),
      log: silentLog,
    });
    return removed;
  };
  await writeVersionFile(versionFilePersist, '1.37.1');
  assert.deepEqual(await wiped(), ['pod'], 'no file in memory: a reboot');
  await writeVersionFile(versionFile, '1.37.0');
  assert.deepEqual(await wiped(), []);
  await writeVersionFile(versionFilePersist, '1.36.9');
  assert.deepEqual(await wiped(), ['pod', 'image']);
});

test('watchdogTimeoutMs reads what the service manager wants of this process', () => {
  assert.equal(watchdogTimeoutMs({ WATCHDOG_USEC: '60000000' }, 7), 60_000);
  assert.equal(watchdogTimeoutMs({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '7' }, 7), 60_000);
  assert.equal(watchdogTimeoutMs({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '8' }, 7), undefined);
  assert.equal(watchdogTimeoutMs({}, 7), undefined);
  for (const text of ['1000000', '0', '-1', 'soon'])
    assert.throws(
      () => watchdogTimeoutMs({ WATCHDOG_USEC: text }, 7),
      /watchdog timeout .* must be more than 1 s/,
      text,
    );
});
