import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { nextTurn } from '../base/next-turn.ts';
import { readStat } from '../sys/process.ts';
import { startReaper } from '../sys/reaper.ts';
import { createOciRuntime } from './oci.ts';
import type { ExecProcess, ExecStreamOptions, ExecSyncOptions, ExecSyncResult, InputStream } from './runtime.ts';
import type { Spec } from './spec/oci.ts';
import { cgroupName, createStage, processesOf } from './test-stage.ts';
import type { Stage } from './test-stage.ts';

/** Commands in containers by the real runtimes. Root, and mount and network namespaces of their own. */
const reaper = startReaper();
after(() => reaper[Symbol.dispose]());

const maxOutputBytes = 16 << 20;
/** Moments of an exec's start at which it is given up. */
const earlyEnds = 60;
const terminalSize = { width: 91, height: 37 };

interface Running {
  readonly id: string;
  readonly stage: Stage;
  sync(script: string, options?: Partial<ExecSyncOptions>, signal?: AbortSignal): Promise<ExecSyncResult>;
  stream(args: readonly string[], options?: Partial<ExecStreamOptions>, signal?: AbortSignal): Promise<ExecProcess>;
  /** Command lines of what runs in the container beside its init process. */
  others(): string[];
}

async function running(stage: Stage, change?: (spec: Spec) => void): Promise<Running> {
  const bundle = stage.bundle(['sleep', '1000'], change);
  const { init } = await stage.runtime.create(stage.call(), bundle);
  await stage.runtime.start(stage.call(), bundle.id);
  return commandsIn(stage, bundle.id, init.pid);
}

function commandsIn(stage: Stage, id: string, initPid: number): Running {
  const process = { user: { uid: 0, gid: 0 }, env: ['PATH=/bin'], cwd: '/' };
  return {
    id,
    stage,
    sync: (script, options = {}, signal) =>
      stage.runtime.execSync(stage.call(signal), {
        id,
        process: { ...process, args: ['sh', '-c', script] },
        timeoutMs: 10_000,
        maxOutputBytes,
        ...options,
      }),
    stream: (args, options = {}, signal) =>
      stage.runtime.execStream(stage.call(signal), {
        id,
        stdin: true,
        stdout: true,
        stderr: true,
        owner: { uid: 0, gid: 0 },
        ...options,
        process: { ...process, args: [...args], ...options.process },
      }),
    others: () =>
      processesOf(id)
        .filter((pid) => pid !== initPid)
        .map(commandLine)
        .filter((line) => line !== ''),
  };
}

/** Empty for one that has ended. */
function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

async function textOf(stream: InputStream | undefined): Promise<string> {
  const chunks: Buffer[] = [];
  for (let chunk = await stream?.read(); chunk !== undefined; chunk = await stream?.read()) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

async function until(claim: () => boolean, what = String(claim)): Promise<void> {
  const end = performance.now() + 10_000;
  while (!claim()) {
    assert.ok(performance.now() < end, `not in time: ${what}`);
    await sleep(10);
  }
}

/** Milliseconds until a command runs; of a few. */
async function startTime(container: Running): Promise<number> {
  const begun = performance.now();
  for (let count = 0; count < 5; count++) (await container.stream(['true']))[Symbol.dispose]();
  return (performance.now() - begun) / 5;
}

/** Aborts it after this time, to a part of a millisecond. One that has started by then is ended. */
async function giveUpAfter(
  ms: number,
  exec: (signal: AbortSignal) => Promise<ExecProcess | ExecSyncResult>,
): Promise<void> {
  const abort = new AbortController();
  const end = performance.now() + ms;
  const work = exec(abort.signal);
  while (performance.now() < end) await nextTurn();
  abort.abort();
  const started = await work.catch(() => undefined);
  if (started === undefined || !('kill' in started)) return;
  await started.kill();
  started[Symbol.dispose]();
}

function terminalProcess(args: readonly string[]): NonNullable<Spec['process']> {
  const { width, height } = terminalSize;
  const user = { uid: 0, gid: 0 };
  return { user, env: ['PATH=/bin'], cwd: '/', args: [...args], terminal: true, consoleSize: { width, height } };
}

/** The same container, but a shell script stands before the runtime. */
function withWrapper({ stage, id }: Running, script: string): Running {
  const path = join(stage.folder, 'wrapper');
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const { features } = stage.runtime;
  const monitor = { ...stage.monitor, path: '/nonexistent' };
  const runtime = createOciRuntime({ command: { ...stage.command, path }, monitor, features, processesOf });
  return commandsIn({ ...stage, runtime }, id, 0);
}

test('a runtime that hangs while it starts an exec is ended, with what it has started', async () => {
  await using stage = await createStage('crun');
  const container = await running(stage);
  const [pids, fifo] = [join(stage.folder, 'pids'), join(stage.folder, 'fifo')];
  const script = [
    `mkfifo ${fifo}`,
    `sleep 1001 & echo $! $$ >${pids}`,
    `setsid sleep 1002 & echo $! >>${pids}`,
    // An orphan in a session of its own, as crun's command is one before it has a pid file.
    `(setsid sh -c 'read line <>${fifo}' - "$@" & echo $! >>${pids})`,
    'wait',
  ];
  const result = await withWrapper(container, script.join('\n')).sync('true', { timeoutMs: 500 });
  assert.ok(result.timedOut);
  const started = readFileSync(pids, 'utf8').split(/\s/).filter(Boolean).map(Number);
  assert.equal(started.length, 4);
  assert.ok(started.every((pid) => readStat(pid) !== undefined));
  await until(() => started.every((pid) => readStat(pid) === undefined));
});

for (const program of ['crun', 'runc']) {
  suite(program, () => {
    test('a program has the size of its terminal when it starts', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      // crun 1.8.1 sets it from outside while the program starts already.
      const args = program === 'runc' ? ['stty', 'size'] : ['sh', '-c', 'sleep 0.2; stty size'];
      for (let count = 0; count < 3; count++) {
        using command = await container.stream([], { process: terminalProcess(args) });
        assert.equal(await textOf(command.stdout), '37 91\r\n');
        assert.equal(await command.exited, 0);
      }
    });

    test('the terminal is the program’s own and can be resized', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      using command = await container.stream([], { process: terminalProcess(['sh']) });
      command.resize({ width: 120, height: 40 });
      await command.stdin?.write(Buffer.from('stty size; echo >/dev/tty ctty; exit 3\n'));
      const text = await textOf(command.stdout);
      assert.match(text, /\r\n40 120\r\n/);
      assert.match(text, /\r\nctty\r\n/);
      assert.equal(await command.exited, 3);
    });

    test('pipes carry input, both outputs and the exit code', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      using command = await container.stream(['sh', '-c', 'cat; echo oops >&2; exit 5']);
      await command.stdin?.write(Buffer.from('hello'));
      command.stdin?.end();
      assert.deepEqual([await textOf(command.stdout), await textOf(command.stderr)], ['hello', 'oops\n']);
      assert.equal(await command.exited, 5);
    });

    test('killing an exec ends its session, and nothing else', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      const other = container.sync('sleep 102');
      using command = await container.stream(['sh', '-c', 'sleep 103 & setsid sleep 104 & (sleep 105 & sleep 106)']);
      await until(() => container.others().filter((line) => line.startsWith('sleep')).length === 5);
      await command.kill();
      assert.equal(await command.exited, 137);
      await until(() => container.others().length <= 3);
      assert.deepEqual(
        container
          .others()
          .filter((line) => line.startsWith('sleep'))
          .toSorted(),
        ['sleep 102', 'sleep 104'],
      );
      await stage.runtime.kill(stage.call(), container.id, 9);
      assert.equal((await other).exitCode, 137);
    });

    test('an exec that is given up at any moment of its start leaves nothing', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      const kinds = {
        stream: (signal: AbortSignal) => container.stream(['sleep', '112'], {}, signal),
        sync: (signal: AbortSignal) => container.sync('exec sleep 112', {}, signal),
      };
      const startMs = await startTime(container);
      for (const [kind, exec] of Object.entries(kinds)) {
        for (let step = 0; step < earlyEnds; step++) {
          const afterMs = (1.2 * startMs * step) / earlyEnds;
          await giveUpAfter(afterMs, exec);
          await until(() => container.others().length === 0, `${kind} after ${afterMs} of ${startMs} ms`);
        }
      }
    });

    test('once a command has ended, killing it does nothing: its pid may be another’s', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      using command = await container.stream(['sh', '-c', 'sleep 109 & exit 4']);
      assert.equal(await command.exited, 4);
      await until(() => container.others().includes('sleep 109'));
      await command.kill();
      assert.deepEqual(container.others(), ['sleep 109']);
    });

    test('a command whose pipes cannot be handed to its user is ended and leaves no descriptor', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      await container.sync('true');
      const before = openFiles().toSorted();
      const noUser = { uid: -2, gid: 0 };
      await assert.rejects(container.stream(['sleep', '110'], { owner: noUser }), /out of range/);
      await until(() => container.others().length === 0);
      assert.deepEqual(openFiles().toSorted(), before);
    });

    test('an execSync whose processes cannot be killed is answered, and what it left goes when it can', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      await container.sync('true');
      const before = openFiles().toSorted();
      const exec = container.sync('echo before; exec sleep 111', { timeoutMs: 1000 });
      await until(() => container.others().includes('sleep 111'));
      const freezer = `/sys/fs/cgroup/freezer/${cgroupName(container.id)}/freezer.state`;
      writeFileSync(freezer, 'FROZEN');
      try {
        const hanging = sleep(30_000, undefined, { ref: false });
        assert.ok((await Promise.race([exec, hanging]))?.timedOut);
        assert.deepEqual(container.others(), ['sleep 111']);
      } finally {
        writeFileSync(freezer, 'THAWED');
      }
      await until(() => container.others().length === 0);
      assert.deepEqual(openFiles().toSorted(), before);
    });

    test('an execSync starts the runtime once, and no monitor', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      const starts = join(stage.folder, 'starts');
      const wrapped = withWrapper(container, `echo "$@" >>${starts}\nexec /usr/bin/${program} "$@"`);
      assert.equal((await wrapped.sync('exit 3')).exitCode, 3);
      const lines = readFileSync(starts, 'utf8').trimEnd().split('\n');
      assert.equal(lines.length, 1);
      assert.match(lines[0] ?? '', / exec --detach /);
    });

    test('a child that calls setsid survives the timeout of its execSync', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      const result = await container.sync('setsid sleep 107 & sleep 108', { timeoutMs: 1000 });
      assert.ok(result.timedOut);
      await until(() => container.others().length === 1);
      assert.deepEqual(container.others(), ['sleep 107']);
    });

    test('execSync writes no file', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      await container.sync('true');
      const files = () => readdirSync(stage.folder, { recursive: true }).map(String).toSorted();
      const [before, open] = [files(), openFiles()];
      const exec = container.sync('echo out; sleep 0.5; echo err >&2');
      await until(() => container.others().length > 0);
      assert.deepEqual(files(), before);
      assert.deepEqual(
        openFiles().filter((path) => !open.includes(path) && !/^(?:\/memfd:|pipe:|socket:|anon_inode:)/.test(path)),
        [],
      );
      assert.equal((await exec).exitCode, 0);
      assert.deepEqual(files(), before);
    });

    test('CVE-2022-1708, CVE-2022-31030: endless output takes no more memory than its limit', async () => {
      await using stage = await createStage(program);
      const container = await running(stage);
      const before = process.memoryUsage.rss();
      let highest = before;
      const watch = setInterval(() => (highest = Math.max(highest, process.memoryUsage.rss())), 20);
      const result = await container.sync('yes & yes >&2', { timeoutMs: 2000 });
      clearInterval(watch);
      assert.ok(result.timedOut);
      assert.equal(result.stdout.length + result.stderr.length, maxOutputBytes);
      // Twice the limit for an instant, when the pieces are put together.
      assert.ok(highest - before < 6 * maxOutputBytes, `${(highest - before) >> 20} MiB`);
      assert.deepEqual(container.others(), []);
      using command = await container.stream(['yes']);
      await sleep(200);
      const waiting = process.memoryUsage.rss();
      await sleep(500);
      assert.ok(process.memoryUsage.rss() - waiting < 8 << 20);
      await command.kill();
    });

    test('a fork bomb in an exec is bounded, and leaves nothing running', async () => {
      await using stage = await createStage(program);
      const container = await running(stage, (spec) => {
        spec.linux = { ...spec.linux, resources: { pids: { limit: 60 } } };
      });
      const result = await container.sync('b() { b | b & b; }; b 2>/dev/null', { timeoutMs: 1000 });
      assert.ok(result.timedOut || result.exitCode !== 0);
    });
  });
}

function openFiles(): string[] {
  return readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return 'pipe:'; // the descriptor of this very look
    }
  });
}
