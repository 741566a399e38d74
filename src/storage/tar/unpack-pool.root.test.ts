import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import { CrioError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { pieces } from '../testing/build-image.ts';
import { buildTar } from '../testing/build-tar.ts';
import { UnpackPool } from './unpack-pool.ts';
import type { UnpackTask } from './unpack-pool.ts';

function setUp(t: TestContext) {
  const base = mkdtempSync(`${tmpdir()}/unpack-pool-`);
  t.after(() => rmSync(base, { recursive: true }));
  let count = 0;
  return (blob: AsyncIterable<Uint8Array>, signal = new AbortController().signal): UnpackTask => {
    const folder = `${base}/${count++}`;
    mkdirSync(`${folder}/diff`, { recursive: true });
    return { diffFolder: `${folder}/diff`, tarSplit: `${folder}/split.gz`, whiteouts: 'overlay', blob, signal };
  };
}

const good = gzipSync(
  buildTar(Array.from({ length: 50 }, (_, at) => ({ name: `f${at}`, data: Buffer.alloc(50_000, `${at}`) }))),
);
const bad = gzipSync(
  buildTar([
    { name: 'a', data: Buffer.alloc(3_000_000) },
    { name: 'b', type: 'Z' },
    { name: 'c', data: Buffer.alloc(3_000_000) },
  ]),
);

test(
  'jobs of one worker fail alone, with their kind of error, and leave no file open',
  { timeout: 30_000 },
  async (t) => {
    const task = setUp(t);
    const pool = new UnpackPool(silentLog);
    const before = readdirSync('/proc/self/fd').length;
    const tasks = Array.from({ length: 8 }, (_, at) => task(pieces(at % 2 === 0 ? good : bad, 500)));
    const results = await Promise.allSettled(tasks.map((one) => pool.unpack(one)));
    for (const [at, result] of results.entries()) {
      if (at % 2 === 0) {
        assert.equal(result.status, 'fulfilled');
        assert.equal(readdirSync(tasks[at]?.diffFolder ?? '').length, 50);
      } else {
        const error: unknown = result.status === 'rejected' ? result.reason : undefined;
        assert.ok(error instanceof CrioError);
        assert.deepEqual([error.kind, /unhandled tar header type "Z"/.test(error.message)], ['invalid', true]);
      }
    }
    await pool[Symbol.asyncDispose]();
    assert.ok(readdirSync('/proc/self/fd').length <= before + 1);
  },
);

test('a blob that fails, hangs or is canceled ends its job', { timeout: 30_000 }, async (t) => {
  const task = setUp(t);
  await using pool = new UnpackPool(silentLog);
  const failing = async function* () {
    yield good.subarray(0, 1000);
    throw new CrioError('unavailable', 'connection reset');
  };
  await assert.rejects(pool.unpack(task(failing())), { kind: 'unavailable', message: 'connection reset' });
  const canceled = new AbortController();
  canceled.abort(new CrioError('canceled', 'nobody waits'));
  await assert.rejects(pool.unpack(task(pieces(good), canceled.signal)), { message: 'nobody waits' });
  const cut = async function* () {
    yield good.subarray(0, good.length - 10);
  };
  await assert.rejects(pool.unpack(task(cut())));
  assert.equal((await pool.unpack(task(pieces(good)))).inodes, 50, 'the worker goes on');
});

test('the bytes that are told to be unpacked add up to the blob', async (t) => {
  const task = setUp(t);
  await using pool = new UnpackPool(silentLog);
  const told: number[] = [];
  await pool.unpack({ ...task(pieces(good, 500)), onUnpacked: (bytes) => told.push(bytes) });
  assert.equal(
    told.reduce((sum, bytes) => sum + bytes, 0),
    good.length,
  );
});
