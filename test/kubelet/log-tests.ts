import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { hasCode } from '../../src/base/errors.ts';
import { parseLog, waitFor } from '../client/pods.ts';
import { containerOf, fullName, get, open, waitForPod, type PodObject } from './api.ts';

/** Logs as `kubectl logs` gets them. */
export function logTests(): void {
  describe('logs', { concurrency: true }, () => {
    test('the log of a container, its end, and its times', async () => {
      await waitForPod('web', (pod) => containerOf(pod, 'server').ready);
      assert.match(await get(logPath('web', 'server')), /^serving\n/);
      await waitForPod('oom', ({ status }) => status.phase === 'Failed');
      assert.equal(await get(`${logPath('oom', 'main')}?tailLines=1`), 'eating\n');
      assert.match(await get(`${logPath('oom', 'main')}?timestamps=true`), /^20\d\d-\S+Z? eating\n$/);
    });

    test('the log of the run before', async () => {
      await waitForPod(
        'probes',
        (pod) => containerOf(pod, 'lively').restartCount === 1 && containerOf(pod, 'lively').ready,
      );
      assert.equal(await get(`${logPath('probes', 'lively')}?previous=true`), 'first run\n');
      await waitFor('the second run', 60_000, async () =>
        (await get(logPath('probes', 'lively'))) === 'second run\n' ? true : undefined,
      );
    });

    test('a reader that follows gets every line, while the kubelet rotates the log', async () => {
      const pod = await waitForPod('logger', (each) => containerOf(each, 'main').ready);
      const response = await open(`${logPath('logger', 'main')}?follow=true&tailLines=1`);
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => (text += part));
      const before = rotated(pod).at(-1);
      await waitFor('the rotation of the log', 60_000, () => (rotated(pod).at(-1) === before ? undefined : true));
      // Of the new file too.
      const seen = linesOf(text).length;
      await waitFor('lines after it', 60_000, () => (linesOf(text).length >= seen + 100 ? true : undefined));
      response.destroy();
      assertConsecutive(linesOf(text));
    });

    test('after a rotation the API gives the lines of the new file, without a gap', async () => {
      const pod = await waitForPod('logger', (each) => containerOf(each, 'main').ready && rotated(each).length > 0);
      const read = async () => linesOf(await get(logPath('logger', 'main')));
      // The new file is empty for a moment.
      const lines = await waitFor('lines', 10_000, async () => {
        const found = await read();
        return found.length > 1 ? found : undefined;
      });
      assertConsecutive(lines);
      const [firstKept = 0] = rotated(pod).flatMap((name) => readLines(join(logFolder(pod), name)));
      assert.ok((lines[0] ?? 0) > firstKept, `the lines begin with ${lines[0]}`);
    });

    test('rotated files and the current one hold every line', async () => {
      const pod = await waitForPod(
        'logger',
        (each) => containerOf(each, 'main').ready && rotated(each).some((name) => name.endsWith('.gz')),
      );
      assertConsecutive(await waitFor('a moment between two rotations', 10_000, () => readAllLines(pod)));
    });
  });
}

function logPath(pod: string, container: string): string {
  return `/containerLogs/default/${fullName(pod)}/${container}`;
}

function logFolder({ metadata }: PodObject): string {
  return `/var/log/pods/${metadata.namespace}_${metadata.name}_${metadata.uid}/main`;
}

/** Oldest first: the kubelet appends the time. */
function rotated(pod: PodObject): string[] {
  return readdirSync(logFolder(pod))
    .filter((name) => /^0\.log\.\d{8}-\d{6}(\.gz)?$/.test(name))
    .toSorted();
}

/** Nothing in the middle of a rotation: there is no 0.log until it is reopened, and a file is there twice once packed. */
function readAllLines(pod: PodObject): number[] | undefined {
  const before = readdirSync(logFolder(pod));
  if (!before.includes('0.log') || before.some((name) => before.includes(`${name}.gz`))) return undefined;
  try {
    const lines = [...rotated(pod), '0.log'].flatMap((name) => readLines(join(logFolder(pod), name)));
    return before.join() === readdirSync(logFolder(pod)).join() ? lines : undefined;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function readLines(file: string): number[] {
  const bytes = readFileSync(file);
  const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString();
  // conmon may be in the middle of the last line.
  return linesOf(
    parseLog(text.slice(0, text.lastIndexOf('\n') + 1))
      .map((line) => `${line.text}\n`)
      .join(''),
  );
}

function linesOf(text: string): number[] {
  return [...text.matchAll(/^line (\d+) of a log that is rotated\n/gm)].map((match) => Number(match[1]));
}

function assertConsecutive(lines: readonly number[]): void {
  assert.ok(lines.length > 0, 'no line');
  const at = lines.findIndex((line, index) => index > 0 && line !== (lines[index - 1] ?? 0) + 1);
  assert.equal(at, -1, `after line ${lines[at - 1] ?? 0} comes ${lines[at] ?? 0}`);
}
