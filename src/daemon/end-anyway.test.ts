import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

const end = JSON.stringify(new URL('end-anyway.ts', import.meta.url).href);
const log = JSON.stringify(new URL('../base/log.ts', import.meta.url).href);

function ended(graceMs: number, code: string): { status: number | null; stderr: string } {
  const script = `
    const { endAnyway } = await import(${end});
    const { Logger, stderrSink } = await import(${log});
    ${code}
    process.exitCode = 3;
    endAnyway(new Logger(stderrSink()), 3, ${graceMs});`;
  const args = ['--input-type=module', '--eval', script];
  return spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 30_000 });
}

test('a process that nothing keeps ends at once, without a word', () => {
  const child = ended(60_000, '');
  assert.deepEqual([child.status, child.stderr], [3, '']);
});

test('a process that a forgotten worker keeps ends with a line in its log', () => {
  const worker =
    "const { Worker } = await import('node:worker_threads'); new Worker('setInterval(() => {}, 1e6)', { eval: true });";
  const child = ended(200, worker);
  assert.equal(child.status, 3);
  assert.match(child.stderr, /level=warning msg="Ending although something is still open /);
});
