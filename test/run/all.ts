/**
 * `make test`: all tests, one group after the other, and at the end the check that the machine is as before.
 *   node test/run/all.ts [--only static|unit|root|e2e|crash|conformance|kubelet] [SUBSTRING of a file name...]
 * The last line is `N passed, N failed, N skipped`. Logs: build/logs.
 */
import { spawn } from 'node:child_process';
import { createWriteStream, globSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { buildTools } from '../conformance/build.ts';
import { buildImages } from '../fixtures/build.ts';
import { differences, snapshot } from './host-world.ts';
import { repository } from './stage.ts';

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

interface Group {
  readonly name: string;
  readonly command: readonly string[];
  /** Reads the counts from what the group printed. */
  readonly count: (output: string) => Counts | undefined;
}

const logs = join(repository, 'build/logs');
const main = join(repository, 'test/run/main.ts');
const { values, positionals } = parseArgs({ options: { only: { type: 'string' } }, allowPositionals: true });
const limitMs = 35 * 60_000;
/** A group that hangs is ended, and the others still run. */
const groupLimitMs = 15 * 60_000;
process.chdir(repository);
process.exitCode = await runAll();

async function runAll(): Promise<number> {
  rmSync(logs, { recursive: true, force: true });
  mkdirSync(logs, { recursive: true });
  const before = snapshot();
  const total: Counts = { passed: 0, failed: 0, skipped: 0 };
  const begin = Date.now();
  if (values.only === undefined || values.only === 'e2e' || values.only === 'conformance') await build(total);
  for (const group of groups()) {
    if (Date.now() - begin > limitMs) {
      console.log(`FAILED ${group.name}: not run, the time is over`);
      total.failed++;
      continue;
    }
    add(total, await runGroup(group));
  }
  add(total, await checkWorld(before));
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  return total.failed === 0 && total.passed > 0 ? 0 : 1;
}

/** critest and crictl: a stage has no route to the modules that they are built from. */
async function build(total: Counts): Promise<void> {
  try {
    buildTools((await buildImages('test')).digests);
  } catch (error) {
    console.log(`FAILED build of critest and crictl: ${error instanceof Error ? error.message : String(error)}`);
    total.failed++;
  }
}

function groups(): Group[] {
  const wanted = (group: string): boolean => values.only === undefined || values.only === group;
  const selected = (files: readonly string[]): string[] =>
    files.filter((file) => positionals.length === 0 || positionals.some((part) => file.includes(part))).toSorted();
  const unit = selected(
    globSync(['src/**/*.test.ts', 'test/fixtures/*.test.ts']).filter((file) => !file.endsWith('.root.test.ts')),
  );
  const root = selected(globSync('src/**/*.root.test.ts'));
  const e2e = selected(globSync('test/e2e/*.test.ts'));
  const crash = selected(globSync('test/crash/*.test.ts'));
  return [
    ...(wanted('static') && positionals.length === 0 ? [staticChecks()] : []),
    ...(wanted('unit') && unit.length > 0 ? [nodeTests('unit', unit, [], ['--test-isolation=none'])] : []),
    ...(wanted('root') && root.length > 0 ? [nodeTests('root', root, [process.execPath, main])] : []),
    // A stage for each file: what one leaves behind does not disturb the next.
    ...(wanted('e2e')
      ? e2e.map((file) => nodeTests(`e2e ${basename(file, '.test.ts')}`, [file], [process.execPath, main]))
      : []),
    ...(wanted('crash')
      ? crash.map((file) => nodeTests(`crash ${basename(file, '.test.ts')}`, [file], [process.execPath, main]))
      : []),
    ...(wanted('conformance') && positionals.length === 0 ? [conformance()] : []),
    ...(wanted('kubelet') && positionals.length === 0 ? [kubelet()] : []),
  ];
}

function nodeTests(
  name: string,
  files: readonly string[],
  prefix: readonly string[],
  more: readonly string[] = [],
): Group {
  // Without --test-force-exit: it loses the results of a file's last tests (nodejs/node#64833).
  const flags = [...more, '--test', '--test-concurrency=1', '--test-reporter=spec', '--test-timeout=300000'];
  return { name, command: [...prefix, process.execPath, ...flags, ...files], count: countNodeTests };
}

/** Generated code, types, lint and format: what `make check` does besides the unit tests. */
function staticChecks(): Group {
  return {
    name: 'static',
    command: ['npm', 'run', '--silent', 'static'],
    // The exit code decides.
    count: () => ({ passed: 1, failed: 0, skipped: 0 }),
  };
}

function conformance(): Group {
  return {
    name: 'conformance',
    command: [process.execPath, join(repository, 'test/conformance/run.ts'), '--named'],
    count: countLastLine,
  };
}

/** It builds its programs itself, before its stages. */
function kubelet(): Group {
  return {
    name: 'kubelet',
    command: [process.execPath, join(repository, 'test/kubelet/run.ts')],
    count: countLastLine,
  };
}

async function runGroup({ name, command, count }: Group): Promise<Counts> {
  const file = join(logs, `${name.replaceAll(' ', '-')}.log`);
  const begin = Date.now();
  const code = await runToFile(command, file);
  const output = readFileSync(file, 'utf8');
  const counts = count(output) ?? { passed: 0, failed: 1, skipped: 0 };
  // A process left behind, or a runner that could not start, fails a group whose tests all passed.
  if (code !== 0 && counts.failed === 0) counts.failed = 1;
  const seconds = ((Date.now() - begin) / 1000).toFixed(1);
  console.log(
    `${counts.failed === 0 ? 'ok    ' : 'FAILED'} ${name}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped (${seconds} s)`,
  );
  if (counts.failed > 0) {
    console.log(failures(output));
    console.log(`       log: ${relative(repository, file)}`);
  }
  return counts;
}

function runToFile([file = 'false', ...args]: readonly string[], log: string): Promise<number> {
  const output = createWriteStream(log);
  const child = spawn(file, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, FORCE_COLOR: '0', CRIO_TS_LOGS: logs },
  });
  child.stdout.pipe(output, { end: false });
  child.stderr.pipe(output, { end: false });
  const limits = [
    setTimeout(() => child.kill('SIGTERM'), groupLimitMs),
    setTimeout(() => {
      child.kill('SIGKILL');
      // Something that outlives it may hold the pipes.
      child.stdout.destroy();
      child.stderr.destroy();
    }, groupLimitMs + 15_000),
  ];
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      for (const limit of limits) clearTimeout(limit);
      output.end(() => resolve(code ?? 1));
    });
  });
}

function countNodeTests(output: string): Counts | undefined {
  const read = (word: string): number => Number(new RegExp(`^. ${word} (\\d+)$`, 'm').exec(output)?.[1] ?? Number.NaN);
  const counts = {
    passed: read('pass'),
    failed: read('fail') + read('cancelled'),
    skipped: read('skipped') + read('todo'),
  };
  return Number.isNaN(counts.passed) ? undefined : counts;
}

function countLastLine(output: string): Counts | undefined {
  const match = /(\d+) passed, (\d+) failed, (\d+) skipped\s*$/.exec(output);
  return match === null ? undefined : { passed: Number(match[1]), failed: Number(match[2]), skipped: Number(match[3]) };
}

/** The part of a log that says what failed: node's summary, critest's lines, or the end. */
function failures(output: string): string {
  const summary = output.indexOf('failing tests:');
  const lines =
    summary < 0
      ? output.split('\n').filter((line) => /^(FAILED|left behind)/.test(line))
      : output.slice(summary).split('\n');
  return (lines.length === 0 ? output.split('\n').slice(-15) : lines.slice(0, 60))
    .map((line) => `       ${line}`)
    .join('\n');
}

/** The last test: nothing is left outside the checkout, the packages and the caches. */
async function checkWorld(before: ReadonlySet<string>): Promise<Counts> {
  let found: string[] = [];
  for (const end = Date.now() + 5000; ;) {
    found = differences(before);
    if (found.length === 0 || Date.now() > end) break;
    await sleep(200);
  }
  console.log(`${found.length === 0 ? 'ok    ' : 'FAILED'} nothing is left behind`);
  for (const line of found.slice(0, 40)) console.log(`       ${line}`);
  if (found.length > 40) console.log(`       and ${found.length - 40} more`);
  return { passed: found.length === 0 ? 1 : 0, failed: found.length === 0 ? 0 : 1, skipped: 0 };
}

function add(total: Counts, { passed, failed, skipped }: Counts): void {
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
}
