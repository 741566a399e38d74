import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  containerStatus,
  createContainer,
  execSync,
  parseLog,
  removePod,
  runContainer,
  runPod,
  waitFor,
  waitForExit,
} from '../client/pods.ts';
import { run } from '../fixtures/process.ts';
import { failureOf, handlers, useDaemon } from './environment.ts';

const node = useDaemon();

for (const handler of handlers) {
  test(`the log with ${handler} has one line per entry, with stream and tag`, async () => {
    const { client } = node;
    const pod = await runPod(client, { handler });
    const id = await runContainer(client, pod, {
      command: ['sh', '-c', 'echo one; sleep 0.1; echo two >&2; sleep 0.1; printf three'],
    });
    const { logPath } = await waitForExit(client, id);
    const entries = parseLog(readFileSync(logPath, 'utf8'));
    assert.deepEqual(
      entries.map((entry) => `${entry.stream} ${entry.tag} ${entry.text}`),
      ['stdout F one', 'stderr F two', 'stdout P three'],
    );
    assert.match(
      readFileSync(logPath, 'utf8'),
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) stdout F one$/m,
    );
    // Others may not read it; conmon 2.1.13 and later let its group.
    assert.equal(statSync(logPath).mode & 0o717, 0o600);
    await removePod(client, pod.id);
  });

  test(`the log with ${handler} is opened anew after a rotation`, async () => {
    const { client } = node;
    const pod = await runPod(client, { handler });
    const containerId = await runContainer(client, pod, {
      command: ['sh', '-c', 'while :; do echo tick; sleep 0.05; done'],
    });
    const { logPath } = await containerStatus(client, containerId);
    await waitFor('a first line', 5000, () => readFileSync(logPath, 'utf8').includes('tick'));
    renameSync(logPath, `${logPath}.1`);
    await client.runtime.reopenContainerLog({ containerId });
    assert.ok(existsSync(logPath));
    await waitFor('a line in the new file', 5000, () => readFileSync(logPath, 'utf8').includes('tick'));
    await client.runtime.stopContainer({ containerId, timeout: 0n });
    assert.match(
      (await failureOf(client.runtime.reopenContainerLog({ containerId }))).details,
      /container is not running/,
    );
    await removePod(client, pod.id);
  });
}

const newline = 0x0a;
const space = 0x20;
const fullTag = 0x46;

/** What a container has printed: entries of its log, one stream, partial ones joined to the next. */
function printed(log: Buffer): Buffer {
  const joined = Buffer.allocUnsafe(log.length);
  let length = 0;
  for (let at = 0; at < log.length;) {
    const end = log.indexOf(newline, at);
    const tag = log.indexOf(space, log.indexOf(space, at) + 1) + 1;
    // The newline of a full entry is the program's.
    length += log.copy(joined, length, tag + 2, log[tag] === fullTag ? end + 1 : end);
    at = end + 1;
  }
  return joined.subarray(0, length);
}

test('rotation once a second loses no line of a container that prints as fast as it can', async () => {
  const { client } = node;
  const pod = await runPod(client);
  const containerId = await runContainer(client, pod, { command: ['sh', '-c', 'sleep 0.5; seq 100000000'] });
  const { logPath } = await containerStatus(client, containerId);
  const files: string[] = [];
  for (let count = 1; count <= 4; count++) {
    await sleep(1000);
    const rotated = `${logPath}.${count}`;
    renameSync(logPath, rotated);
    await client.runtime.reopenContainerLog({ containerId });
    assert.ok(existsSync(logPath));
    files.push(rotated);
  }
  await client.runtime.stopContainer({ containerId, timeout: 0n });
  await waitForExit(client, containerId);
  const text = Buffer.concat([...files, logPath].map((file) => printed(readFileSync(file)))).toString('latin1');
  let number = 0;
  for (let at = 0; at < text.length;) {
    const end = text.indexOf('\n', at);
    // The end of the container may cut its last line.
    if (end < 0) break;
    assert.equal(text.slice(at, end), String(++number));
    at = end + 1;
  }
  assert.ok(number > 100_000, `only ${number} lines`);
  await removePod(client, pod.id);
});

test('lines of up to 1 MB are entries marked as partial that join to exactly what was printed', async () => {
  const { client } = node;
  const pod = await runPod(client);
  const line = 'head -c 786432 /dev/urandom | base64 | tr -d "\\n"; echo';
  const command = ['sh', '-c', `for n in 1 2 3; do ${line}; echo short $n; done | tee /tmp/printed; sleep 1000`];
  const id = await runContainer(client, pod, { command });
  const { logPath } = await containerStatus(client, id);
  await waitFor('the last line', 10_000, () => readFileSync(logPath, 'utf8').endsWith('short 3\n') || undefined);
  const log = readFileSync(logPath);
  const entries = parseLog(log.toString());
  assert.ok(entries.every(({ text }) => text.length <= 8192));
  assert.ok(entries.filter(({ tag }) => tag === 'P').length >= 3 * 127);
  assert.equal(entries.filter(({ tag }) => tag === 'F').length, 6);
  const hash = createHash('sha256').update(printed(log)).digest('hex');
  assert.equal((await execSync(client, id, ['sha256sum', '/tmp/printed'])).stdout, `${hash}  /tmp/printed\n`);
  await removePod(client, pod.id);
});

test('a full disk below the log of one container hurts neither the daemon nor any other container', async () => {
  const { client } = node;
  const logDirectory = '/var/log/crio/full';
  mkdirSync(logDirectory);
  run('mount', ['-t', 'tmpfs', '-o', 'size=1m,nr_inodes=20', 'tmpfs', logDirectory]);
  try {
    const full = await runPod(client, { config: { logDirectory } });
    const other = await runPod(client);
    const writer = await runContainer(client, full, {
      name: 'writer',
      command: ['sh', '-c', 'seq 30000; while :; do echo more; sleep 0.1; done'],
    });
    const neighbour = await runContainer(client, full, { name: 'neighbour', command: ['sleep', '1000'] });
    const ticker = await runContainer(client, other, {
      command: ['sh', '-c', 'n=0; while :; do echo $((n=n+1)); sleep 0.01; done'],
    });
    const { logPath } = await containerStatus(client, writer);
    await waitFor('the end of the space', 10_000, () => statSync(logPath).size > 900_000 || undefined);
    const ticks = async () => parseLog(readFileSync((await containerStatus(client, ticker)).logPath, 'utf8'));
    const before = (await ticks()).length;
    await sleep(1000);
    assert.ok((await ticks()).length > before + 20);
    for (const id of [writer, neighbour, ticker]) {
      assert.equal((await execSync(client, id, ['echo', 'here'])).stdout, 'here\n');
      assert.equal((await containerStatus(client, id)).state, 1);
    }
    // The kubelet's way out: the old log goes, and a new one is begun.
    unlinkSync(logPath);
    await client.runtime.reopenContainerLog({ containerId: writer });
    await waitFor(
      'the writer’s log again',
      10_000,
      () => readFileSync(logPath, 'utf8').includes(' stdout F more') || undefined,
    );
    await removePod(client, full.id);
    await removePod(client, other.id);
  } finally {
    run('umount', ['--lazy', logDirectory]);
  }
});

test('CVE-2026-53489, CVE-2025-0750: a log path leads neither out of the pod’s folder nor through symbolic links', async () => {
  const { client } = node;
  const pod = await runPod(client);
  const folder = pod.config.logDirectory ?? '';
  const secret = mkdtempSync('/srv/secret-');
  writeFileSync(join(secret, 'victim'), 'secret\n');
  mkdirSync(join(folder, 'real'));
  symlinkSync(secret, join(folder, 'linked'));
  symlinkSync(join(secret, 'victim'), join(folder, 'final.log'));
  symlinkSync(join(secret, 'new'), join(folder, 'real/broken.log'));
  run('mkfifo', [join(folder, 'fifo.log')]);
  const refusals = {
    '../escape.log': /outside of the log directory/,
    'real/../../escape.log': /outside of the log directory/,
    [`${'../'.repeat(20)}etc/cron.d/x`]: /outside of the log directory/,
    'linked/0.log': /"[^"]*\/linked" is a symbolic link/,
    'linked/../linked/0.log': /is a symbolic link/,
    'final.log': /a symbolic link/,
    'fifo.log': /not a plain file/,
    real: /not a plain file/,
    'absent/0.log': /directory ".*absent" does not exist/,
  };
  for (const [logPath, text] of Object.entries(refusals)) {
    const { details } = await failureOf(createContainer(client, pod, { command: ['true'], config: { logPath } }));
    assert.match(details, text, logPath);
  }
  assert.equal(readFileSync(join(secret, 'victim'), 'utf8'), 'secret\n');
  // A link that leads nowhere is removed, as by CRI-O; nothing is made where it led.
  const id = await runContainer(client, pod, { command: ['echo', 'x'], config: { logPath: 'real/broken.log' } });
  await waitForExit(client, id);
  assert.ok(!existsSync(join(secret, 'new')));
  assert.ok(statSync(join(folder, 'real/broken.log')).isFile());
  await removePod(client, pod.id);
  rmSync(secret, { recursive: true });
});

test('CVE-2026-53489: links that are planted later are not followed when the log is opened anew', async () => {
  const { client } = node;
  const pod = await runPod(client);
  const folder = pod.config.logDirectory ?? '';
  const victim = join(mkdtempSync('/srv/secret-'), '0.log');
  writeFileSync(victim, 'secret\n');
  mkdirSync(join(folder, 'main'));
  const command = ['sh', '-c', 'while :; do echo tick; sleep 0.05; done'];
  const containerId = await runContainer(client, pod, { command, config: { logPath: 'main/0.log' } });
  const logPath = join(folder, 'main/0.log');
  const reopen = () => client.runtime.reopenContainerLog({ containerId });
  // conmon writes to this name and renames it.
  symlinkSync(victim, `${logPath}.tmp`);
  assert.match((await failureOf(reopen())).details, /0\.log\.tmp": a symbolic link/);
  unlinkSync(`${logPath}.tmp`);
  renameSync(logPath, `${logPath}.1`);
  symlinkSync(victim, logPath);
  assert.match((await failureOf(reopen())).details, /0\.log": a symbolic link/);
  unlinkSync(logPath);
  renameSync(join(folder, 'main'), join(folder, 'away'));
  symlinkSync(dirname(victim), join(folder, 'main'));
  assert.match((await failureOf(reopen())).details, /main" is a symbolic link/);
  unlinkSync(join(folder, 'main'));
  renameSync(join(folder, 'away'), join(folder, 'main'));
  assert.equal(readFileSync(victim, 'utf8'), 'secret\n');
  await reopen();
  await waitFor('a line in the new file', 5000, () => readFileSync(logPath, 'utf8').includes('tick') || undefined);
  await removePod(client, pod.id);
  rmSync(dirname(victim), { recursive: true });
});

test('CVE-2025-0750: annotations for links to logs mount and unmount nothing elsewhere', async () => {
  const { client } = node;
  const target = mkdtempSync('/srv/mounted-');
  run('mount', ['-t', 'tmpfs', 'tmpfs', target]);
  try {
    const up = `${'../'.repeat(12)}${target.slice(1)}`;
    const annotations = { 'io.kubernetes.cri-o.LinkLogs': up, 'link-logs.crio.io': up, 'link-logs.crio.io/main': up };
    const before = mounts();
    for (let count = 0; count < 2; count++) {
      let podId = '';
      try {
        const pod = await runPod(client, { config: { annotations } });
        podId = pod.id;
        await runContainer(client, pod, { command: ['true'], config: { annotations } });
      } catch {
        // To refuse is fine too.
      }
      if (podId !== '') await removePod(client, podId);
    }
    assert.deepEqual(mounts(), before);
  } finally {
    run('umount', [target]);
    rmSync(target, { recursive: true });
  }
});

function mounts(): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith('/srv/') || path.startsWith('/var/log'));
}
