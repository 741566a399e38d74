import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { markRunning, markStopped, wasStoppedCleanly } from './clean-shutdown.ts';
import { saysOtherRelease, writeVersionFile } from './version-file.ts';

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
