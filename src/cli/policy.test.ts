import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLog } from '../base/log.ts';
import { putImage, startFakeRegistry } from '../image/testing/fake-registry.ts';
import { statusListener } from '../status-api/listener.ts';
import type { StatusDeps } from '../status-api/handle-status-request.ts';
import { runCli } from './run.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'crio-policy-'));
  await mkdir(join(folder, 'policies'));
  await write(
    'key.pem',
    '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n',
  );
  const signed = [{ type: 'sigstoreSigned', keyPath: join(folder, 'key.pem') }];
  const noKey = [{ type: 'signedBy', keyType: 'GPGKeys', keyPath: '/nonexistent.gpg' }];
  await write('policy.json', {
    default: [{ type: 'reject' }],
    transports: { docker: { 'r.io/a': signed, 'r.io/b': noKey, 'blocked.io': [{ type: 'insecureAcceptAnything' }] } },
  });
  await write('policies/team.json', { default: [{ type: 'insecureAcceptAnything' }] });
  await write(
    'registries.conf',
    '[[registry]]\nlocation = "blocked.io"\nblocked = true\n[[registry]]\nlocation = "r.io"\n[[registry.mirror]]\nlocation = "m.io"\n',
  );
});
after(() => rm(folder, { recursive: true }));

const write = (name: string, content: object | string) =>
  writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));

/** `crio policy explain`, with flags before the command. */
async function explain(globals: readonly string[], ...args: readonly string[]) {
  const out = { stdout: '', stderr: '' };
  const env = {
    CONTAINER_CONFIG: '',
    CONTAINER_CONFIG_DIR: '',
    CONTAINER_LISTEN: join(folder, 'crio.sock'),
    HOME: folder,
  };
  const code = await runCli([...globals, 'policy', 'explain', ...args], env, {
    output: { stdout: (text) => (out.stdout += text), stderr: (text) => (out.stderr += text) },
    startDaemon: () => Promise.resolve(0),
    openStore: () => Promise.reject(new Error('no store')),
  });
  return { code, ...out };
}

const own = () => [
  ...['--signature-policy', join(folder, 'policy.json'), '--signature-policy-dir', join(folder, 'policies')],
  ...['--registries-conf', join(folder, 'registries.conf'), '--registries-conf-dir', join(folder, 'none')],
];

describe('crio policy explain', () => {
  it('names file, scope, requirements and result, from the files of its flags', async () => {
    const { code, stdout, stderr } = await explain(own(), 'r.io/a/b:1');
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(
      stdout,
      /^answered by: the files of this machine, as --\S+ was given\nimage: docker:\/\/r\.io\/a\/b:1\npolicy file: .*policy\.json /,
    );
    assert.match(stdout, /rule: transport "docker", scope "r\.io\/a" \(first that exists of "r\.io\/a\/b:1", /);
    assert.match(stdout, /\n {2}sigstoreSigned keyPath=".*key\.pem"\nwhen a container is created: checked again\n/);
    assert.match(
      stdout,
      /\nsignatures of m\.io\/a\/b:1 \(mirror\): lookaside .*\nsignatures of r\.io\/a\/b:1: lookaside /,
    );
    assert.match(stdout, /result: accepted when it meets every requirement above\n$/);
    const team = (await explain(own(), 'r.com/x', '--namespace', 'team')).stdout;
    assert.match(
      team,
      /policy file: .*team\.json .*\n.*\n {2}insecureAcceptAnything\n.*\nresult: accepted, whatever it is\n$/,
    );
  });

  it('names why an image is refused whatever its signatures are', async () => {
    for (const [name, why] of [
      ['r.com/x', /rule: default .*\n {2}reject\n.*\nresult: refused: whatever it is, by the requirement "reject"\n$/],
      ['r.io/b', /result: refused: read public key "\/nonexistent\.gpg": ENOENT/],
      ['blocked.io/x', /result: refused: registry blocked\.io is blocked in /],
    ] as const)
      assert.match((await explain(own(), name)).stdout, why);
    const broken = ['--signature-policy', join(folder, 'broken.json'), '--signature-policy-dir', join(folder, 'none')];
    await write('broken.json', { default: [{ type: 'maybe' }] });
    assert.match(
      (await explain(broken, 'r.io/a')).stdout,
      /result: refused: .*unknown policy requirement type "maybe"\n$/,
    );
    const none = ['--signature-policy', join(folder, 'none.json')];
    assert.match((await explain(none, 'r.io/a')).stdout, /result: refused: no policy file, looked for .*none\.json\n$/);
  });

  it('with --check asks the registry, says why the image is refused, and fails', async () => {
    await using registry = await startFakeRegistry();
    putImage(registry, 'a', '1');
    await write('insecure.conf', `[[registry]]\nlocation = "${registry.host}"\ninsecure = true\n`);
    const signed = [{ type: 'sigstoreSigned', keyPath: join(folder, 'key.pem') }];
    const accept = [{ type: 'insecureAcceptAnything' }];
    const docker = { [`${registry.host}/a`]: signed, [`${registry.host}/b`]: accept };
    await write('check.json', { default: [{ type: 'reject' }], transports: { docker } });
    const flags = [
      '--registries-conf',
      join(folder, 'insecure.conf'),
      '--signature-policy',
      join(folder, 'check.json'),
    ];
    const refused = await explain(flags, `${registry.host}/a:1`, '--check');
    assert.equal(refused.code, 1);
    assert.match(
      refused.stdout,
      /\nmanifest: sha256:[0-9a-f]{64} from http:\/\/127\.0\.0\.1:\d+ \(no credentials\)\nsignatures found: 0\n/,
    );
    assert.match(
      refused.stdout,
      /\nresult: refused: .*A signature was required, but no signature exists.*requirement "sigstoreSigned"\)\n$/,
    );
    putImage(registry, 'b', '1');
    const accepted = await explain(flags, `${registry.host}/b:1`, '--check');
    assert.equal(accepted.code, 0);
    assert.match(accepted.stdout, /result: accepted\n$/);
    const missing = await explain(flags, `${registry.host}/b:2`, '--check');
    assert.match(missing.stdout, /result: not decided: read manifest 2: .*404 not found/);
  });

  it('asks the running daemon, unless its flags name other files or there is none', async () => {
    const asked: unknown[] = [];
    const deps = {
      explainPolicy(name: string, namespace: string, check: AbortSignal | undefined) {
        asked.push([name, namespace, check !== undefined]);
        return Promise.resolve({ text: 'the daemon says so\n', isRefused: true });
      },
    };
    const server = createServer(statusListener(deps as unknown as StatusDeps, silentLog));
    await new Promise<void>((resolve) => server.listen(join(folder, 'crio.sock'), resolve));
    const { code, stdout } = await explain([], 'a', '--namespace', 'n');
    assert.deepEqual([code, stdout], [0, `answered by: the daemon on ${folder}/crio.sock\nthe daemon says so\n`]);
    assert.equal((await explain([], 'a', '--check')).code, 1);
    assert.deepEqual(asked, [
      ['a', 'n', false],
      ['a', '', true],
    ]);
    assert.match((await explain(own(), 'r.io/a')).stdout, /^answered by: the files/);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    const { stdout: files, stderr } = await explain([], 'r.io/a');
    assert.match(files, /^answered by: the files of this machine, as no daemon answers on /, stderr);
  });
});
