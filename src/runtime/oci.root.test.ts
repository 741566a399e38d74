import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, onProcessExit, readStat } from '../sys/process.ts';
import { startReaper } from '../sys/reaper.ts';
import { connectSeqpacket } from '../sys/socket.ts';
import { watchExits } from './exits.ts';
import { silentLog } from '../base/log.ts';
import { createOciRuntime } from './oci.ts';
import type { CreateOptions, CreatedProcess, ExitRecord } from './runtime.ts';
import { cgroupName, createStage, processesOf } from './test-stage.ts';
import type { Stage } from './test-stage.ts';

/** The real runtimes under the real conmon. Root, and mount and network namespaces of their own. */
const reaper = startReaper();
after(() => reaper[Symbol.dispose]());

async function started(stage: Stage, options: CreateOptions): Promise<CreatedProcess> {
  const process = await stage.runtime.create(stage.call(), options);
  await stage.runtime.start(stage.call(), options.id);
  return process;
}

async function until(claim: () => boolean, limitMs = 5000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!claim()) {
    assert.ok(performance.now() < end, `not in time: ${claim}`);
    await sleep(5);
  }
}

function openDescriptors(pid: number | 'self' = 'self'): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

for (const program of ['crun', 'runc']) {
  suite(program, () => {
    test('a container is created, started, and its end is reported with code and time', async () => {
      await using stage = await createStage(program);
      const ends: ExitRecord[] = [];
      const bundle = stage.bundle(['sh', '-c', 'echo hello; echo oops >&2; exit 7']);
      await using watcher = watchExits({
        dir: stage.monitor.exitsDir,
        log: silentLog,
        onExit: async (record) => void ends.push(record),
        persistDirOf: () => bundle.persistDir,
      });
      assert.ok(watcher !== undefined);
      const before = BigInt(Date.now()) * 1_000_000n;
      const { init, monitor } = await stage.runtime.create(stage.call(), bundle);
      assert.deepEqual(stage.created, [join(stage.command.root, bundle.id)]);
      assert.ok(isAlive(init));
      assert.ok(monitor !== undefined && readStat(monitor.pid)?.command === 'conmon');
      assert.equal((await stage.runtime.state(stage.call(), bundle.id))?.status, 'created');
      await stage.runtime.start(stage.call(), bundle.id);
      await until(() => ends.length > 0);
      const [end] = ends;
      assert.deepEqual([end?.containerId, end?.exitCode, end?.oomKilled], [bundle.id, 7, false]);
      assert.ok(end !== undefined && end.finishedAtNs > before - 10_000_000n);
      assert.match(readFileSync(bundle.logPath, 'utf8'), / stdout F hello\n.* stderr F oops\n/s);
      await until(() => monitor !== undefined && !isAlive(monitor));
      await stage.runtime.delete(stage.call(), bundle.id);
      await stage.runtime.delete(stage.call(), bundle.id);
      assert.equal(await stage.runtime.state(stage.call(), bundle.id), undefined);
    });

    test('a program that does not exist: the runtime’s text, and nothing is left', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['/nonexistent']);
      const before = openDescriptors();
      await assert.rejects(
        stage.runtime.create(stage.call(), bundle),
        /^CrioError: container create failed: .*nonexistent.*[Nn]o such file or directory/s,
      );
      assert.ok(!existsSync(bundle.logPath));
      assert.deepEqual(readdirSync(stage.monitor.attachSocketDir), []);
      assert.ok(!existsSync(join(stage.command.root, bundle.id)));
      assert.equal(openDescriptors(), before);
      assert.deepEqual(stage.created, []);
    });

    test('a container that onCreated refuses is deleted', async () => {
      await using stage = await createStage(program);
      const refusing = createOciRuntime({
        command: stage.command,
        monitor: stage.monitor,
        features: stage.runtime.features,
        processesOf,
        onCreated() {
          throw new Error('refused');
        },
      });
      const bundle = stage.bundle(['sleep', '100']);
      await assert.rejects(refusing.create(stage.call(), bundle), /refused/);
      assert.equal(await stage.runtime.state(stage.call(), bundle.id), undefined);
    });

    test('more clients than the queue of the monitor’s socket holds attach at once', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sh', '-c', 'sleep 0.5; echo hi; sleep 100']);
      const { monitor } = await started(stage, bundle);
      assert.ok(monitor !== undefined);
      process.kill(monitor.pid, 'SIGSTOP');
      const clients = Array.from({ length: 30 }, () => stage.runtime.attach(stage.call(), bundle));
      setTimeout(() => process.kill(monitor.pid, 'SIGCONT'), 100);
      for (const client of await Promise.all(clients)) {
        using attachment = client;
        assert.equal((await attachment.receive())?.data.toString(), 'hi\n');
      }
    });

    test('the monitor’s attach socket carries packets both ways', async () => {
      await using stage = await createStage(program);
      const bundle = { ...stage.bundle(['cat']), stdin: true };
      await started(stage, bundle);
      const before = openDescriptors();
      {
        await using socket = await connectSeqpacket(join(bundle.bundle, 'attach'));
        await socket.send(Buffer.from('hello\n'));
        // One byte for the stream, 2 is stdout; the answer may come in parts.
        let text = '';
        while (!text.endsWith('\n')) {
          const packet = await socket.receive();
          assert.equal(packet?.[0], 2);
          text += packet.subarray(1).toString();
        }
        assert.equal(text, 'hello\n');
        await stage.runtime.kill(stage.call(), bundle.id, 9);
        assert.equal(await socket.receive(), undefined);
      }
      assert.equal(openDescriptors(), before);
      await assert.rejects(connectSeqpacket(join(bundle.bundle, 'nothing')), { code: 'ENOENT' });
    });

    test('clients of attach that go while the container prints do the monitor no harm', async () => {
      await using stage = await createStage(program);
      const ticks = join(stage.folder, 'rootfs/ticks');
      writeFileSync(ticks, '');
      const script = "trap 'echo tick; echo >>/ticks' USR1; echo >>/ticks; while :; do sleep 100 & wait $!; done";
      const bundle = { ...stage.bundle(['sh', '-c', script]), stdin: true };
      const pid = (await started(stage, bundle)).monitor?.pid ?? 0;
      const before = { own: openDescriptors(), monitor: openDescriptors(pid) };
      const attach = () => stage.runtime.attach(stage.call(), bundle);
      const print = async () => {
        const { size } = statSync(ticks);
        await stage.runtime.kill(stage.call(), bundle.id, 10);
        await until(() => statSync(ticks).size > size);
      };
      await until(() => statSync(ticks).size > 0);
      for (let round = 0; round < 5; round++) {
        const earlier = await Promise.all(Array.from({ length: 9 }, attach));
        const last = await attach();
        await until(() => openDescriptors(pid) === before.monitor + 10);
        for (const attachment of earlier) attachment[Symbol.dispose]();
        // It has read their ends.
        await sleep(20);
        // For it the last one goes at the same time as there is output.
        process.kill(pid, 'SIGSTOP');
        last[Symbol.dispose]();
        assert.equal(await last.receive(), undefined);
        assert.equal(await last.send(Buffer.from('x')), false);
        await print();
        process.kill(pid, 'SIGCONT');
        await until(() => openDescriptors() === before.own);
        await print();
        await until(() => openDescriptors(pid) === before.monitor);
      }
      const attachment = await attach();
      await print();
      assert.equal((await attachment.receive())?.data.toString(), 'tick\n');
      attachment[Symbol.dispose]();
      await stage.runtime.kill(stage.call(), bundle.id, 9);
    });

    test('a log folder that is missing is named', async () => {
      await using stage = await createStage(program);
      const bundle = { ...stage.bundle(['true']), logPath: '/nonexistent/x.log' };
      await assert.rejects(
        stage.runtime.create(stage.call(), bundle),
        /container create failed: conmon .*nonexistent.*log file.*exit status 1/,
      );
    });

    test('a creation that takes too long is given up', async () => {
      await using stage = await createStage(program);
      // A hook is a child of the runtime, and outlives it: it ends by itself before the tests do.
      const bundle = stage.bundle(['true'], (spec) => {
        spec.hooks = { createRuntime: [{ path: '/bin/sleep', args: ['sleep', '3'] }] };
      });
      await assert.rejects(stage.runtime.create(stage.call(), { ...bundle, timeoutMs: 500 }), {
        kind: 'deadline',
        message: 'create container timeout',
      });
      assert.ok(!existsSync(bundle.logPath));
      assert.ok(!existsSync(join(stage.command.root, bundle.id)));
    });

    test('kill reaches the process, and one that is gone is success', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sleep', '100']);
      const { init } = await started(stage, bundle);
      await assert.rejects(stage.runtime.kill(stage.call(), bundle.id, 0), { kind: 'invalid' });
      await stage.runtime.kill(stage.call(), bundle.id, 9);
      await until(() => !isAlive(init));
      await stage.runtime.kill(stage.call(), bundle.id, 9);
      await until(() => existsSync(join(bundle.persistDir, 'exit')));
      assert.equal(readFileSync(join(bundle.persistDir, 'exit'), 'utf8'), '137');
    });

    test('starting twice fails with the runtime’s text', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sleep', '100']);
      await started(stage, bundle);
      await assert.rejects(stage.runtime.start(stage.call(), bundle.id), (error: Error) =>
        error.message.startsWith(`\`/usr/bin/${program} --root ${stage.command.root} start ${bundle.id}\` failed: `),
      );
    });

    test('execSync gives output and exit code', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sleep', '100']);
      await started(stage, bundle);
      const exec = (args: string[], extra = {}) =>
        stage.runtime.execSync(stage.call(), {
          id: bundle.id,
          process: { user: { uid: 0, gid: 0 }, args, env: ['PATH=/bin'], cwd: '/' },
          timeoutMs: 5000,
          maxOutputBytes: 1 << 20,
          ...extra,
        });
      // The first one opens the folder for pid files, which stays.
      await exec(['true']);
      const before = openDescriptors();
      const result = await exec(['sh', '-c', 'echo out; echo err >&2; exit 3']);
      assert.deepEqual(
        [
          Buffer.from(result.stdout).toString(),
          Buffer.from(result.stderr).toString(),
          result.exitCode,
          result.timedOut,
        ],
        ['out\n', 'err\n', 3, false],
      );
      for (const code of [0, 1, 2, 126, 127, 255]) {
        assert.equal((await exec(['sh', '-c', `exit ${code}`])).exitCode, code);
      }
      assert.equal((await exec(['sh', '-c', 'kill -9 $$'])).exitCode, 137);
      const bounded = await exec(['sh', '-c', 'yes | head -c 500000; yes n | head -c 500000 >&2'], {
        maxOutputBytes: 1000,
      });
      assert.equal(bounded.stdout.length + bounded.stderr.length, 1000);
      assert.equal(openDescriptors(), before);
    });

    test('execSync tells a command that cannot start from one that ends with 255', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sleep', '100']);
      await started(stage, bundle);
      const process = { user: { uid: 0, gid: 0 }, env: ['PATH=/bin'], cwd: '/' };
      const options = { id: bundle.id, timeoutMs: 5000, maxOutputBytes: 1000 };
      const exec = (args: string[], cwd = '/') =>
        stage.runtime.execSync(stage.call(), { ...options, process: { ...process, args, cwd } });
      await assert.rejects(
        exec(['/nonexistent']),
        /^CrioError: command error: .*nonexistent.*, stdout: , stderr: .*, exit code -1$/s,
      );
      await assert.rejects(exec(['true'], '/nowhere'), /command error: .*nowhere/s);
      await assert.rejects(
        stage.runtime.execSync(stage.call(), { ...options, id: 'unknown', process: { ...process, args: ['true'] } }),
        /command error: /,
      );
    });

    test('an exec that takes too long is killed with its whole session, and nothing else', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sh', '-c', 'sleep 300']);
      const { init } = await started(stage, bundle);
      const options = { id: bundle.id, maxOutputBytes: 1000 };
      const process = { user: { uid: 0, gid: 0 }, env: ['PATH=/bin'], cwd: '/' };
      const other = stage.runtime.execSync(stage.call(), {
        ...options,
        timeoutMs: 0,
        process: { ...process, args: ['sleep', '2'] },
      });
      const startedMs = performance.now();
      const result = await stage.runtime.execSync(stage.call(), {
        ...options,
        timeoutMs: 500,
        process: { ...process, args: ['sh', '-c', 'echo before; sleep 201 & (sleep 202 & sleep 203) & sleep 204'] },
      });
      assert.ok(performance.now() - startedMs < 1500);
      assert.ok(result.timedOut);
      assert.equal(Buffer.from(result.stdout).toString(), 'before\n');
      const listed = await stage.runtime.execSync(stage.call(), {
        ...options,
        timeoutMs: 5000,
        process: { ...process, args: ['ps'] },
      });
      const text = Buffer.from(listed.stdout).toString();
      assert.match(text, /sleep 300/);
      assert.match(text, /sleep 2\n/);
      assert.doesNotMatch(text, /sleep 20/);
      assert.equal((await other).exitCode, 0);
      assert.ok(isAlive(init));
    });

    test('an exec does not wait for a process it leaves in the background', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sleep', '100']);
      await started(stage, bundle);
      const startedMs = performance.now();
      const result = await stage.runtime.execSync(stage.call(), {
        id: bundle.id,
        maxOutputBytes: 1000,
        timeoutMs: 10_000,
        process: { user: { uid: 0, gid: 0 }, env: ['PATH=/bin'], cwd: '/', args: ['sh', '-c', 'sleep 50 & echo done'] },
      });
      assert.equal(Buffer.from(result.stdout).toString(), 'done\n');
      assert.ok(performance.now() - startedMs < 3000);
    });

    test('pause, resume and update', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sleep', '100'], (spec) => {
        spec.linux = { ...spec.linux, resources: { memory: { limit: 100 << 20 } } };
      });
      await started(stage, bundle);
      await stage.runtime.pause(stage.call(), bundle.id);
      assert.equal((await stage.runtime.state(stage.call(), bundle.id))?.status, 'paused');
      await stage.runtime.resume(stage.call(), bundle.id);
      assert.equal((await stage.runtime.state(stage.call(), bundle.id))?.status, 'running');
      await stage.runtime.update(stage.call(), bundle.id, {
        memory: { limit: 50 << 20, swap: 0 },
        cpu: { shares: 512, quota: 0 },
      });
      const cgroup = cgroupName(bundle.id);
      assert.equal(
        readFileSync(`/sys/fs/cgroup/memory/${cgroup}/memory.limit_in_bytes`, 'utf8').trim(),
        String(50 << 20),
      );
      assert.equal(readFileSync(`/sys/fs/cgroup/cpu/${cgroup}/cpu.shares`, 'utf8').trim(), '512');
      await assert.rejects(
        stage.runtime.update(stage.call(), bundle.id, { cpu: { cpus: '999' } }),
        new RegExp(`^CrioError: updating resources for container "${bundle.id}" failed: .*: exit status 1$`, 's'),
      );
    });

    test('reopenLog makes a new file, and says when there is no monitor or no folder', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sh', '-c', 'while true; do echo tick; sleep 0.02; done']);
      const { monitor } = await started(stage, bundle);
      await until(() => statSync(bundle.logPath).size > 0);
      renameSync(bundle.logPath, `${bundle.logPath}.1`);
      const options = { bundle: bundle.bundle, logPath: bundle.logPath };
      await stage.runtime.reopenLog(stage.call(), options);
      await until(() => statSync(bundle.logPath).size > 0);
      // Without a rotation, too: the old content goes.
      const before = statSync(bundle.logPath).ino;
      await stage.runtime.reopenLog(stage.call(), options);
      assert.notEqual(statSync(bundle.logPath).ino, before);
      await assert.rejects(
        stage.runtime.reopenLog(stage.call(), { ...options, logPath: '/nonexistent/a.log' }),
        /no folder "\/nonexistent"/,
      );
      assert.ok(monitor !== undefined && isAlive(monitor));
      await stage.runtime.kill(stage.call(), bundle.id, 9);
      await new Promise<void>((resolve) => (isAlive(monitor) ? onProcessExit(monitor.pid, resolve) : resolve()));
      await assert.rejects(stage.runtime.reopenLog(stage.call(), options), /the monitor .* has ended/);
    });

    test('a container with a terminal logs what it prints there', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sh', '-c', 'test -t 1 && echo terminal'], (spec) => {
        if (spec.process !== undefined) spec.process.terminal = true;
      });
      await started(stage, bundle);
      await until(() => existsSync(join(bundle.persistDir, 'exit')));
      assert.match(readFileSync(bundle.logPath, 'utf8'), / stdout F terminal\r\n/);
    });

    test('a container killed for its memory is reported so', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sh', '-c', 'x=$(head -c 60000000 /dev/zero | cat -v)'], (spec) => {
        spec.linux = { ...spec.linux, resources: { memory: { limit: 20 << 20 } } };
      });
      const ends: ExitRecord[] = [];
      await using watcher = watchExits({
        dir: stage.monitor.exitsDir,
        log: silentLog,
        onExit: async (record) => void ends.push(record),
        persistDirOf: () => bundle.persistDir,
      });
      assert.ok(watcher !== undefined);
      await started(stage, bundle);
      await until(() => ends.length > 0, 20_000);
      assert.deepEqual([ends[0]?.oomKilled, ends[0]?.exitCode], [true, 137]);
    });

    test('an exec whose caller gives up is killed', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sleep', '100']);
      const { init } = await started(stage, bundle);
      const abort = new AbortController();
      const exec = stage.runtime.execSync(stage.call(abort.signal), {
        id: bundle.id,
        maxOutputBytes: 1000,
        timeoutMs: 0,
        process: { user: { uid: 0, gid: 0 }, env: ['PATH=/bin'], cwd: '/', args: ['sleep', '77'] },
      });
      setTimeout(() => abort.abort(), 200);
      await assert.rejects(exec, { kind: 'canceled' });
      const cgroup = `/sys/fs/cgroup/pids/${cgroupName(bundle.id)}/cgroup.procs`;
      await until(() => readFileSync(cgroup, 'utf8').trim() === String(init.pid));
    });

    test('many execs at once keep their outputs and codes apart', async () => {
      await using stage = await createStage(program);
      const bundle = stage.bundle(['sleep', '100']);
      await started(stage, bundle);
      const results = await Promise.all(
        Array.from({ length: 12 }, (_, index) =>
          stage.runtime.execSync(stage.call(), {
            id: bundle.id,
            maxOutputBytes: 1000,
            timeoutMs: 20_000,
            process: {
              user: { uid: 0, gid: 0 },
              env: ['PATH=/bin'],
              cwd: '/',
              args: ['sh', '-c', `echo ${index}; exit ${index}`],
            },
          }),
        ),
      );
      results.forEach((result, index) => {
        assert.deepEqual([result.exitCode, Buffer.from(result.stdout).toString()], [index, `${index}\n`]);
      });
    });

    test('many creations at once', async () => {
      await using stage = await createStage(program);
      const bundles = Array.from({ length: 8 }, () => stage.bundle(['sleep', '100']));
      const processes = await Promise.all(bundles.map((bundle) => started(stage, bundle)));
      assert.equal(new Set(processes.map(({ init }) => init.pid)).size, 8);
      await Promise.all(bundles.map((bundle) => stage.runtime.delete(stage.call(), bundle.id)));
      for (const { init } of processes) await until(() => !isAlive(init));
    });
  });
}

test('watchExits reports what lay there before, once, and ignores temporary names', async () => {
  await using stage = await createStage('crun');
  const dir = join(stage.folder, 'other-exits');
  mkdirSync(dir);
  const [a, b] = ['a'.repeat(64), 'b'.repeat(64)];
  writeFileSync(join(dir, a), '1');
  writeFileSync(join(dir, `${b}.Xy12Za`), '2');
  const seen: string[] = [];
  await using watcher = watchExits({
    dir,
    log: silentLog,
    rescanMs: 20,
    onExit: async (record) => void seen.push(`${record.containerId[0]}${record.exitCode}`),
  });
  assert.ok(watcher !== undefined);
  await until(() => seen.length === 1);
  renameSync(join(dir, `${b}.Xy12Za`), join(dir, b));
  await until(() => seen.length === 2);
  await sleep(60);
  assert.deepEqual(seen, ['a1', 'b2']);
  rmSync(join(dir, a));
  await sleep(60);
  writeFileSync(join(dir, a), '3');
  await until(() => seen.length === 3);
  assert.equal(seen[2], 'a3');
});
