import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const end = JSON.stringify(new URL('end-anyway.ts', import.meta.url).href);
const log = JSON.stringify(new URL('../base/log.ts', import.meta.url).href);

function ended(
  graceMs: number,
  code: string,
  lastSeconds = 20,
): { status: number | null; signal: string | null; stderr: string } {
  const script = `
    const { endAnyway } = await import(${end});
    const { Logger, stderrSink } = await import(${log});
    ${code}
    process.exitCode = 3;
    endAnyway(new Logger(stderrSink()), { graceMs: ${graceMs}, lastSeconds: ${lastSeconds} });`;
  const args = ['--input-type=module', '--eval', script];
  return spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 30_000, killSignal: 'SIGKILL' });
}

const startWorker = (code: string): string =>
  `const { Worker } = await import('node:worker_threads'); const worker = new Worker(${JSON.stringify(code)}, { eval: true });`;

test('a process that nothing keeps ends at once, without a word', () => {
  const child = ended(60_000, '');
  assert.deepEqual([child.status, child.stderr], [3, '']);
});

test('a process that a forgotten worker keeps ends with a line in its log', () => {
  const child = ended(200, startWorker('setInterval(() => {}, 1e6)'));
  assert.equal(child.status, 3);
  assert.match(child.stderr, /level=warning msg="Ending although something is still open /);
});

test('a process with a thread that hangs in the kernel ends too', () => {
  const folder = mkdtempSync(join(tmpdir(), 'end-'));
  try {
    const pipe = join(folder, 'pipe');
    spawnSync('mkfifo', [pipe]);
    // Nobody ever opens the other end.
    const hang = `
      import { openSync } from 'node:fs';
      import { parentPort } from 'node:worker_threads';
      parentPort.postMessage('now');
      openSync(${JSON.stringify(pipe)}, 'r');`;
    const wait = 'await new Promise((resolve) => worker.once("message", resolve));';
    const child = ended(1000, startWorker(hang) + wait, 1);
    assert.equal(child.signal, 'SIGALRM');
    assert.match(child.stderr, /level=warning msg="Ending although something is still open /);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
