import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { silentLog } from '../base/log.ts';
import type { PullProgress } from '../image/pull-progress.ts';
import { statusListener } from '../status-api/listener.ts';
import type { StatusDeps } from '../status-api/handle-status-request.ts';
import { barsView, formatBytes, linesView } from './pull-view.ts';
import { runCli } from './run.ts';

let folder = '';
let server: Server;
let running: PullProgress[] = [];
let end = Promise.withResolvers<string>();

const pull: PullProgress = {
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
    pull({ reference, namespace }: { reference: string; namespace: string }) {
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

async function crio(...args: readonly string[]) {
  const out = { stdout: '', stderr: '' };
  const env = {
    CONTAINER_CONFIG: '',
    CONTAINER_CONFIG_DIR: '',
    CONTAINER_LISTEN: join(folder, 'crio.sock'),
    CONTAINER_SIGNATURE_POLICY: join(folder, 'policy.json'),
    CONTAINER_SIGNATURE_POLICY_DIR: join(folder, 'policies'),
    PATH: process.env['PATH'],
  };
  const code = await runCli(args, env, {
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
    pulls: [{ reference: 'r.io/b:1', namespace: '', started: 5, phase: 'layers', layers: [layer] }],
  });
  const events = read('/pulls/events', /event: end/);
  setTimeout(() => end.resolve('1'), 300);
  const text = await events;
  assert.match(text, /^event: progress\ndata: \{.*"reference":"r\.io\/b:1"/m);
  assert.match(text, /event: end\ndata: \{"namespace":"","reference":"r\.io\/b:1","started":5\}\n\n$/);
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

test('crio policy explain names file, scope, requirements and result', async () => {
  await mkdir(join(folder, 'policies'));
  const accept = [{ type: 'insecureAcceptAnything' }];
  const signed = [{ type: 'signedBy', keyType: 'GPGKeys', keyPath: '/key.gpg' }];
  const write = (name: string, policy: object) => writeFile(join(folder, name), JSON.stringify(policy));
  await write('policy.json', { default: [{ type: 'reject' }], transports: { docker: { 'r.io/a': signed } } });
  await write('policies/team.json', { default: accept });
  const { stdout, stderr } = await crio('policy', 'explain', 'r.io/a/b:1');
  assert.equal(stderr, '');
  assert.match(stdout, /^image: docker:\/\/r\.io\/a\/b:1\npolicy file: .*policy\.json /);
  assert.match(stdout, /rule: transport "docker", scope "r\.io\/a" \(first that exists of "r\.io\/a\/b:1", /);
  assert.match(stdout, /\n {2}signedBy keyType="GPGKeys" keyPath="\/key\.gpg"\nsignatures: lookaside /);
  assert.match(stdout, /result: accepted when it meets every requirement above\n$/);
  assert.match((await crio('policy', 'explain', 'r.com/x')).stdout, /rule: default .*\n {2}reject\nresult: refused/);
  const team = (await crio('policy', 'explain', 'r.com/x', '--namespace', 'team')).stdout;
  assert.match(
    team,
    /policy file: .*team\.json .*\nresult: accepted, whatever it is|insecureAcceptAnything\nresult: accepted/,
  );
});
