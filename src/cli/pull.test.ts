import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { silentLog } from '../base/log.ts';
import type { PullProgress } from '../image/pull-progress.ts';
import { statusListener } from '../status-api/listener.ts';
import type { StatusDeps } from '../status-api/handle-status-request.ts';
import type { PullTarget } from '../status-api/pulls.ts';
import type { RegistryAuth } from '../status-api/registry-auth.ts';
import { askDaemon } from './ask-daemon.ts';
import type { DaemonRequest } from './ask-daemon.ts';
import { barsView, formatBytes, linesView } from './pull-view.ts';
import { runCli } from './run.ts';

let folder = '';
let server: Server;
let running: PullProgress[] = [];
let end = Promise.withResolvers<string>();

const pull: PullProgress = {
  id: 7,
  reference: 'r.io/a:1',
  namespace: 'team',
  startedMs: 5,
  phase: 'layers',
  layers: [
    {
      digest: `sha256:${'a'.repeat(64)}`,
      sizeBytes: 2_500_000,
      downloadedBytes: 1_250_000,
      unpackedBytes: 1_000_000,
      phase: 'downloading',
      endpoint: 'https://r.io',
      bytesPerSecond: 10,
    },
  ],
};

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'crio-pull-'));
  const pulls = {
    list: () => running,
    pull({ reference, namespace, credentials, authFile }: PullTarget) {
      asked = { credentials, authFile };
      running = [{ ...pull, reference, namespace }];
      return end.promise.finally(() => (running = []));
    },
  };
  // Other paths are not asked for.
  server = createServer(statusListener({ pulls } as unknown as StatusDeps, silentLog));
  await new Promise<void>((resolve) => server.listen(join(folder, 'crio.sock'), resolve));
});
after(async () => {
  server.closeAllConnections();
  server.close();
  await rm(folder, { recursive: true });
});

/** What is typed, and what the daemon was told. */
let typed = '';
let env: Readonly<Record<string, string>> = {};
let asked: Partial<RegistryAuth> = {};

async function crio(...args: readonly string[]) {
  const out = { stdout: '', stderr: '' };
  const all = {
    CONTAINER_CONFIG: '',
    CONTAINER_CONFIG_DIR: '',
    CONTAINER_LISTEN: join(folder, 'crio.sock'),
    PATH: process.env['PATH'],
    ...env,
  };
  const code = await runCli(args, all, {
    input: { isTerminal: typed === '', read: () => Readable.from([typed]) },
    output: { stdout: (text) => (out.stdout += text), stderr: (text) => (out.stderr += text) },
    startDaemon: () => Promise.resolve(0),
    openStore: () => Promise.reject(new Error('no store')),
  });
  return { code, ...out };
}

test('crio pull shows the progress in lines and ends with the id', async () => {
  end = Promise.withResolvers();
  setTimeout(() => end.resolve('1234'), 300);
  const { code, stdout } = await crio('pull', 'r.io/a:1', '--namespace', 'team');
  assert.equal(code, 0);
  assert.equal(
    stdout,
    'layers\nlayer aaaaaaaaaaaa: downloading (2.5 MB) from https://r.io\ndone\nlayer aaaaaaaaaaaa: done (2.5 MB)\n1234\n',
  );
});

test('crio pull fails with the error of the pull', async () => {
  end = Promise.withResolvers();
  setTimeout(() => end.reject(new Error('unable to pull image: no')), 50);
  const { code, stderr } = await crio('pull', 'r.io/a:1');
  assert.equal(code, 1);
  assert.match(stderr, /unable to pull image: no/);
  assert.match((await crio('pull')).stderr, /expected one image/);
  const noDaemon = await crio('pull', '--socket', join(folder, 'none.sock'), 'a');
  assert.match(noDaemon.stderr, /connect to the daemon on .*none\.sock.*ENOENT/);
});

test('crio pull takes a password from its argument, the environment or standard input, and shows it to nobody', async () => {
  const pullWith = async (...args: readonly string[]) => {
    end = Promise.withResolvers();
    end.resolve('1');
    const { code, stdout, stderr } = await crio('--log-level', 'debug', 'pull', ...args, 'r.io/a:1');
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stdout + stderr, /hunter2/);
    const { credentials, authFile } = asked;
    return [credentials?.username, credentials?.password, authFile];
  };
  assert.deepEqual(await pullWith(), [undefined, undefined, undefined]);
  assert.deepEqual(await pullWith('--creds', 'me:hunter2:x'), ['me', 'hunter2:x', undefined]);
  typed = 'hunter2 \n';
  assert.deepEqual(await pullWith('--creds', 'me'), ['me', 'hunter2 ', undefined]);
  env = { CRIO_REGISTRY_PASSWORD: 'hunter2é' };
  assert.deepEqual(await pullWith('--creds', 'me'), ['me', 'hunter2é', undefined]);
  assert.deepEqual(await pullWith('--authfile', '/a b/é.json'), [undefined, undefined, '/a b/é.json']);
  env = {};
  for (const [input, args, want] of [
    ['', ['--creds', 'me'], /no password: give it in \$CRIO_REGISTRY_PASSWORD or on standard input/],
    ['\n', ['--creds', 'me'], /the password on standard input is empty/],
    ['x', ['--creds', ':hunter2'], /expected USER\[:PASSWORD\]/],
    ['x', ['--creds', 'me:hunter2', '--authfile', '/a'], /exclude each other/],
  ] as const) {
    typed = input;
    const { code, stderr } = await crio('pull', ...args, 'r.io/a:1');
    assert.equal(code, 1);
    assert.match(stderr, want);
    assert.doesNotMatch(stderr, /hunter2/);
  }
  typed = '';
});

test('POST /pulls answers credentials that cannot be read with 400, and does not repeat them', async () => {
  for (const headers of [
    { 'X-Registry-Auth': Buffer.from('{"password":"hunter2"').toString('base64url') },
    { 'X-Registry-Auth': Buffer.from('{"password":["hunter2"]}').toString('base64url') },
    { 'X-Registry-Auth-File': 'relative/hunter2' },
    { 'X-Registry-Auth-File': '/%zz' },
  ] as const) {
    const request: DaemonRequest = { method: 'POST', path: '/pulls?image=a', headers: { ...headers } };
    const { status, body } = await askDaemon(join(folder, 'crio.sock'), request);
    let text = '';
    for await (const chunk of body) text += chunk;
    assert.equal(status, 400);
    assert.match(text, /^header X-Registry-Auth(?:-File)? cannot be read\n$/);
  }
});

test('GET /pulls and GET /pulls/events show the same pull', async () => {
  end = Promise.withResolvers();
  const pulling = crio('pull', 'r.io/b:1');
  while (running.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  const { request } = await import('node:http');
  const read = (path: string, until: RegExp) =>
    new Promise<string>((resolve, reject) => {
      const call = request({ socketPath: join(folder, 'crio.sock'), path }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
          if (!until.test(text)) return;
          resolve(text);
          call.destroy();
        });
      });
      call.on('error', reject);
      call.end();
    });
  const list: unknown = JSON.parse(await read('/pulls', /\}$/));
  const shown = {
    digest: `sha256:${'a'.repeat(64)}`,
    size: 2_500_000,
    downloaded: 1_250_000,
    unpacked: 1_000_000,
    phase: 'downloading',
  };
  const layer = { ...shown, endpoint: 'https://r.io', bytes_per_second: 10 };
  assert.deepEqual(list, {
    pulls: [{ id: 7, reference: 'r.io/b:1', namespace: '', started: 5, phase: 'layers', layers: [layer] }],
  });
  const events = read('/pulls/events', /event: end/);
  setTimeout(() => end.resolve('1'), 300);
  const text = await events;
  assert.match(text, /^event: progress\ndata: \{.*"reference":"r\.io\/b:1"/m);
  assert.match(text, /event: end\ndata: \{"id":7,"namespace":"","reference":"r\.io\/b:1","started":5\}\n\n$/);
  await pulling;
});

test('bars are drawn over the ones before, and what a registry says cannot control the terminal', () => {
  const view = barsView(() => ({ columns: 90, rows: 24 }));
  const layer = {
    digest: 'sha256:\x1b[2Jbad',
    size: 100,
    downloaded: 50,
    unpacked: 25,
    phase: 'downloading',
    endpoint: 'https://r.io\x1b[2J',
    bytesPerSecond: 7,
  };
  const first = view({ phase: 'layers', layers: [layer] });
  assert.match(
    first,
    /^layers: 50 B of 100 B 7 B\/s from https:\/\/r\.io\?\[2J\x1b\[K\n\?\[2Jbad \[={10}-{9} {19}\] {4}100 B {6}7 B\/s downloading\x1b\[K\n\x1b\[J$/,
  );
  assert.match(view({ phase: 'committing', layers: [] }), /^\x1b\[2Acommitting/);
  const many = Array.from({ length: 40 }, (_, index) => ({ ...layer, digest: `${index}`, phase: 'done' }));
  assert.match(view({ phase: 'layers', layers: many }), /40 of 40 layers are there/);
});

test('bars never take more lines or columns than the terminal has', () => {
  const layer = {
    digest: 'sha256:a',
    size: 9,
    downloaded: 9,
    unpacked: 0,
    phase: 'waiting',
    endpoint: 'e',
    bytesPerSecond: 1e9,
  };
  const layers = Array.from({ length: 30 }, () => layer);
  for (const rows of [5, 10, 100]) {
    const text = barsView(() => ({ columns: 40, rows }))({ phase: 'layers', layers });
    const lines = text.split('\n').map((line) => line.replaceAll(/\x1b\[\w/g, ''));
    assert.ok(lines.length < rows, `${lines.length} lines on ${rows} rows`);
    assert.ok(lines.every((line) => line.length < 40));
  }
});

test('lines are written for changes only', () => {
  const view = linesView();
  const layer = {
    digest: 'sha256:a',
    size: 1,
    downloaded: 0,
    unpacked: 0,
    phase: 'waiting',
    endpoint: '',
    bytesPerSecond: 0,
  };
  assert.equal(view({ phase: 'layers', layers: [layer] }), 'layers\n');
  assert.equal(view({ phase: 'layers', layers: [layer] }), '');
  assert.equal(view({ phase: 'layers', layers: [{ ...layer, phase: 'exists' }] }), 'layer a: exists (1 B)\n');
  assert.deepEqual([0, 999, 1000, 999_960, 5e12].map(formatBytes), ['0 B', '999 B', '1.0 KB', '1.0 MB', '5.0 TB']);
});
