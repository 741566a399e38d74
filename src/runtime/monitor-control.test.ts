import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdirSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../base/errors.ts';
import { Logger } from '../base/log.ts';
import { reopenThroughMonitor, resizeThroughMonitor } from './monitor-control.ts';

const folder = mkdtempSync(join(tmpdir(), 'monitor-control-'));
after(() => rmSync(folder, { recursive: true }));

const lines: string[] = [];
const log = new Logger({ level: 'debug', filter: undefined, format: 'text', write: (line) => void lines.push(line) });

test('a size that cannot be sent is no exception', async () => {
  const bundle = join(folder, 'broken');
  mkdirSync(join(bundle, 'ctl'), { recursive: true });
  resizeThroughMonitor(log, bundle, { width: 80, height: 24 });
  resizeThroughMonitor(log, bundle, { width: 81, height: 24 });
  await sleep(60);
  assert.equal(lines.filter((line) => line.includes('EISDIR')).length, 2);
  await assert.rejects(reopenThroughMonitor(bundle), { code: 'EISDIR' });
  await assert.rejects(reopenThroughMonitor(join(folder, 'nothing')), { code: 'ENOENT' });
});

test('no message is sent with another, no reopening is lost, and the last size is the last that is sent', async () => {
  const bundle = join(folder, 'many');
  mkdirSync(bundle);
  execFileSync('mkfifo', [join(bundle, 'ctl')]);
  const fd = openSync(join(bundle, 'ctl'), constants.O_RDWR | constants.O_NONBLOCK);
  const reads: string[] = [];
  // A monitor that is busy in between.
  const reading = setInterval(() => reads.push(...readNow(fd)), 8);
  const reopened: Promise<void>[] = [];
  for (let width = 1; width <= 50; width++) {
    resizeThroughMonitor(log, bundle, { width, height: 5000 });
    if (width % 25 === 0) reopened.push(reopenThroughMonitor(bundle));
    await sleep(2);
  }
  await Promise.all(reopened);
  await sleep(60);
  clearInterval(reading);
  closeSync(fd);
  for (const read of reads) assert.match(read, /^(?:1 1000 \d+|2 0 0)\n$/);
  assert.equal(reads.filter((read) => read === '2 0 0\n').length, 2);
  assert.equal(reads.filter((read) => read.startsWith('1 ')).at(-1), '1 1000 50\n');
});

function readNow(fd: number): string[] {
  const buffer = Buffer.alloc(1000);
  try {
    return [buffer.toString('latin1', 0, readSync(fd, buffer))];
  } catch (error) {
    if (hasCode(error, 'EAGAIN')) return [];
    throw error;
  }
}
