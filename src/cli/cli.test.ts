import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ContainerRecord, Store } from '../storage/store.ts';
import { runCli } from './run.ts';
import type { DaemonStart } from './run.ts';
import { crioContainer } from './store-access.ts';

const appUsage = 'crio [global options] command [command options]';
let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'crio-cli-'));
});
after(async () => {
  await rm(folder, { recursive: true });
});

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly started: DaemonStart | undefined;
}

/** Runs `crio` without the configuration of this machine. */
async function crio(args: readonly string[], store?: Store, env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  const out = { stdout: '', stderr: '', started: undefined as DaemonStart | undefined };
  const bare = {
    CONTAINER_CONFIG: '',
    CONTAINER_CONFIG_DIR: '',
    CONTAINER_LOG_DIR: join(folder, 'logs'),
    CONTAINER_LISTEN: join(folder, 'daemon.sock'),
    PATH: process.env['PATH'],
    ...env,
  };
  const code = await runCli(args, bare, {
    output: { stdout: (text) => (out.stdout += text), stderr: (text) => (out.stderr += text) },
    startDaemon: (start) => {
      out.started = start;
      return Promise.resolve(0);
    },
    openStore: () => (store === undefined ? Promise.reject(new Error('no store')) : Promise.resolve(store)),
  });
  return { code, ...out };
}

function fakeStore(records: {
  readonly containers: readonly ContainerRecord[];
  readonly damage?: { readonly images: readonly string[]; readonly containers: readonly string[] };
}) {
  const deleted: string[] = [];
  const checks: unknown[] = [];
  const repairs: unknown[] = [];
  const reasons = (ids: readonly string[] = []) => new Map(ids.map((id) => [id, 'reason']));
  const store = {
    graphRoot: '/nowhere/root',
    containers: {
      list: () => Promise.resolve(records.containers),
      unmount: () => Promise.resolve(),
      delete: (id: string) => Promise.resolve(void deleted.push(id)),
    },
    images: { delete: (id: string) => Promise.resolve(void deleted.push(id)) },
    health: {
      check(options: unknown) {
        checks.push(options);
        return Promise.resolve({
          layers: reasons(),
          readOnlyLayers: reasons(),
          images: reasons(records.damage?.images),
          readOnlyImages: reasons(),
          names: new Map([['image', ['a.org/b:1', 'a.org/b:2']]]),
          containers: reasons(records.damage?.containers),
        });
      },
      repair(_damage: unknown, options: unknown) {
        repairs.push(options);
        return Promise.resolve(new Map([['image', { usedBy: 'user' }]]));
      },
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  // Only the members that the commands use are there.
  return { store: store as unknown as Store, deleted, checks, repairs };
}

function container(id: string, metadata: unknown): ContainerRecord {
  return {
    id,
    names: [`name-${id}`],
    imageId: 'image',
    layerId: 'layer',
    metadata: JSON.stringify(metadata),
    createdNs: 0n,
    mountLabel: '',
    uidMap: [],
    gidMap: [],
  };
}

test('crio config prints a file in which nothing is set', async () => {
  const { code, stdout, stderr } = await crio(['config']);
  assert.equal(code, 0);
  assert.match(stdout, /^# cgroup_manager = "systemd"$/m);
  assert.match(stdout, /^# \[crio\.runtime\.runtimes\.crun\]$/m);
  assert.doesNotMatch(stderr, /time=/);
});

test('crio config and crio check warn of what is wrong in the files of other tools, and end well', async () => {
  const file = async (name: string, text: string) => {
    await writeFile(join(folder, name), text);
    return join(folder, name);
  };
  const storage = await file('storage.conf', '[storage]\ndriver = "overlay"\ngraphrot = "/x"\n');
  const registries = await file('registries.conf', '[[registry]]\nlocation = "a.test"\nblokced = true\n');
  const policy = await file('policy.json', '{"default":[{"type":"signedBy","keyType":"GPGKeys","keypath":"/k"}]}');
  const env = { CONTAINERS_STORAGE_CONF: storage, CONTAINERS_REGISTRIES_CONF: registries };
  const lines = [
    `${storage}:3: unknown key "storage.graphrot" is ignored; did you mean "graphroot"?`,
    `${registries}: unknown key "registry[0].blokced" is ignored; did you mean "blocked"?`,
    `no image can be pulled with this signature policy: policy "${policy}"."default"[0]: unknown key "keypath"; did you mean "keyPath"?`,
  ];
  const { store } = fakeStore({ containers: [] });
  for (const command of ['config', 'check']) {
    const { code, stderr } = await crio(['--signature-policy', policy, command], store, env);
    assert.equal(code, 0);
    for (const line of lines) assert.ok(stderr.includes(`level=warning msg=${JSON.stringify(line)}`), stderr);
  }
  await rm(policy);
  const missing = await crio(['--signature-policy', policy, 'config'], store, env);
  assert.match(
    missing.stderr,
    /no image can be pulled with this signature policy: read signature policy: no such file: .*policy\.json/,
  );
  await writeFile(registries, 'x = [');
  const broken = await crio(['config'], store, env);
  assert.equal(broken.code, 0);
  assert.match(
    broken.stderr,
    /level=warning msg="the daemon will not start: read registries configuration .*registries\.conf/,
  );
});

test('crio config and crio check tell what the daemon refuses at its start', async () => {
  const storage = join(folder, 'zfs.conf');
  await writeFile(storage, '[storage]\ndriver = "zfs"\n');
  const registries = join(folder, 'insecure.conf');
  await writeFile(registries, '[[registry]]\nlocation = "a.test"\ninsecure = "yes"\n');
  const env = { CONTAINERS_STORAGE_CONF: storage, CONTAINERS_REGISTRIES_CONF: registries };
  const lines = [
    'storage driver "zfs": only overlay and vfs are supported',
    'storage option "overlay.imagestor=/x" is not supported',
    `read registries configuration "${registries}": registry[0].insecure: expected true or false`,
  ];
  const { store } = fakeStore({ containers: [] });
  for (const command of ['config', 'check']) {
    const { code, stderr } = await crio(['--storage-opt', 'overlay.imagestor=/x', command], store, env);
    assert.equal(code, 0);
    for (const line of lines)
      assert.ok(stderr.includes(`level=warning msg=${JSON.stringify(`the daemon will not start: ${line}`)}`), stderr);
  }
  const { stderr } = await crio(['--storage-driver', 'overlay2', '--storage-opt', 'overlay.mountopt=nodev', 'config']);
  assert.doesNotMatch(stderr, /will not start/);
});

test('crio config and crio check warn of auth files that are missing or broken', async () => {
  const broken = join(folder, 'broken-auth.json');
  await writeFile(broken, '{"auths":');
  const misspelt = join(folder, 'misspelt-auth.json');
  await writeFile(misspelt, '{"auth":{"a.test":{"auth":"dTpw"}}}');
  assert.match(
    (await crio(['--global-auth-file', misspelt, 'config'])).stderr,
    /global_auth_file: \\".*misspelt-auth\.json\\" has no credentials: none of \\"auths\\", \\"credHelpers\\" and \\"credsStore\\" is in it/,
  );
  const conf = join(folder, 'auth.conf');
  await writeFile(
    conf,
    `[crio.image]\nglobal_auth_file = "${folder}/none.json"\npause_image_auth_file = "${broken}"\n`,
  );
  for (const command of ['config', 'check']) {
    const { code, stderr } = await crio(['-c', conf, command], fakeStore({ containers: [] }).store);
    assert.equal(code, 0);
    assert.match(
      stderr,
      /level=warning msg="global_auth_file: no such file \\".*none\.json\\": pulls have no credentials"/,
    );
    assert.match(stderr, /pause_image_auth_file: no image can be pulled with it: .*auth file \\".*broken-auth\.json/);
  }
});

test('crio config --default prints every option', async () => {
  const { stdout } = await crio(['config', '--default']);
  assert.match(stdout, /^cgroup_manager = "systemd"$/m);
  assert.match(stdout, /^\[crio\.nri\.default_validator\]$/m);
  assert.match(stdout, /^# cni_default_network = ""$/m);
});

test('a broken file breaks every command with one fatal line', async () => {
  const path = join(folder, 'broken.conf');
  await writeFile(path, '[crio.runtime]\nlog_level = 5\n');
  for (const args of [['config'], ['version'], ['status'], []]) {
    const { code, stdout, stderr } = await crio(['-c', path, ...args]);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, /level=fatal msg="unable to decode configuration .*broken\.conf: toml: line 2, column 13 /);
  }
  assert.equal((await crio(['-c', path, '--version'])).code, 0);
  assert.equal((await crio(['-c', path, '--help'])).code, 0);
});

test('bad log settings are fatal for every command', async () => {
  assert.match((await crio(['--log-level', 'loud', 'version'])).stderr, /not a valid logrus Level: \\"loud\\"/);
  assert.match((await crio(['--log-filter', '(', 'version'])).stderr, /custom log level filter does not compile/);
  assert.match((await crio(['--log-format', 'xml', 'version'])).stderr, /unknown log-format/);
});

test('version prints text and JSON with our own release beside', async () => {
  assert.match((await crio(['version'])).stdout, /^Version: +1\.37\.0\+\S+\nRelease: +crio-ts \d/);
  const json: unknown = JSON.parse((await crio(['version', '-j'])).stdout);
  assert.ok(typeof json === 'object' && json !== null && 'gitCommit' in json && 'seccompEnabled' in json);
  assert.match((await crio(['--version'])).stdout, /^crio version 1\.37\.0\+\S+\n {3}Release:/);
});

test('help lists commands and visible flags; unknown topics end with 3', async () => {
  const { stdout } = await crio(['--help']);
  assert.match(stdout, /^COMMANDS:$/m);
  assert.match(stdout, /--log-level value, -l value +Verbosity .*\(default: "info"\) \[\$CONTAINER_LOG_LEVEL\]$/m);
  assert.doesNotMatch(stdout, /registries-conf|publish/);
  assert.equal((await crio(['help', 'nothing'])).code, 3);
  assert.equal((await crio(['status', 'nothing'])).code, 3);
  assert.match((await crio(['status', 'info', '--help'])).stdout, /^ {3}crio status info - /m);
});

const wrongArguments: readonly (readonly [string[], string, string, string])[] = [
  [['check', 'foo'], 'unexpected argument "foo"', 'crio check [command options]', 'crio check'],
  [['pull'], 'expected one image', 'crio pull [command options] IMAGE', 'crio pull'],
  [
    ['policy', 'explain', 'a', 'b'],
    'expected one image',
    'crio policy explain [command options] IMAGE',
    'crio policy explain',
  ],
];

test('a misspelt flag or command, or a wrong argument, ends with 1, the nearest name and one line of usage', async () => {
  const fatal = (text: string) => `level=fatal msg=${JSON.stringify(text)}\n`;
  const wrongs: readonly (readonly [string[], string, string, string])[] = [
    [['--nope'], 'flag provided but not defined: -nope', appUsage, 'crio'],
    [
      ['--log-levle', 'debug'],
      'flag provided but not defined: -log-levle; did you mean "--log-level"?',
      appUsage,
      'crio',
    ],
    [['--log-level'], 'flag needs an argument: -log-level', appUsage, 'crio'],
    [['nope'], 'command "nope" not supported', appUsage, 'crio'],
    [['cofnig'], 'command "cofnig" not supported; did you mean "config"?', appUsage, 'crio'],
    [
      ['config', '--defualt'],
      'flag provided but not defined: -defualt; did you mean "--default"?',
      'crio config [command options]',
      'crio config',
    ],
    [
      ['policy', 'explain', 'busybox', '--namspace=x'],
      'flag provided but not defined: -namspace; did you mean "--namespace"?',
      'crio policy explain [command options] IMAGE',
      'crio policy explain',
    ],
  ];
  for (const [args, message, usage, path] of [...wrongs, ...wrongArguments]) {
    const { code, stdout, stderr } = await crio(args);
    assert.equal(code, 1);
    assert.equal(stdout, '', 'what is redirected into a file stays clean');
    assert.ok(stderr.endsWith(`${fatal(message)}Usage: ${usage}\nTry: ${path} --help\n`), stderr);
  }
  assert.match((await crio(['complete', 'csh'])).stderr, /only bash, fish or zsh are supported/);
  const topic = await crio(['status', 'cnofig']);
  assert.deepEqual([topic.code, topic.stderr], [3, 'No help topic for \'cnofig\'; did you mean "config"?\n']);
  assert.match((await crio(['help', 'wpie'])).stderr, /No help topic for 'wpie'; did you mean "wipe"\?/);
});

test('manual and completion name every visible flag', async () => {
  for (const args of [['man'], ['markdown'], ['complete'], ['complete', 'fish'], ['completion', 'zsh']]) {
    const { code, stdout } = await crio(args);
    assert.equal(code, 0);
    assert.match(stdout.replaceAll('\\-', '-'), /storage-driver/, args.join(' '));
    assert.doesNotMatch(stdout.replaceAll('\\-', '-'), /registries-conf\b/);
  }
});

test('without a command the daemon starts with a validated configuration', async () => {
  const { code, stderr, started } = await crio(['--stats-collection-period=5', '--log-level=debug']);
  if (code === 1) return assert.match(stderr, /is not in \$PATH/); // no runtime on this machine
  assert.equal(started?.config.runtime.runtimes.get('crun')?.runtimeType, 'oci');
  assert.equal(started?.sink.level, 'debug');
  assert.match(
    stderr,
    /Option crio\.stats\.stats_collection_period \(--stats-collection-period\) is set, but has no effect/,
  );
  assert.match(stderr, /FLAG: --stats-collection-period=/);
});

test('status asks the socket and keeps all digits of the creation time', async () => {
  const socket = join(folder, 'crio.sock');
  const body =
    '{"name":"n","pid":7,"image":"i","image_ref":"r","created_time":1795246033679148565,"labels":{"a":"b"},' +
    '"annotations":null,"crio_annotations":null,"log_path":"l","root":"/r","sandbox":"s","ip_addresses":["1","2"],"host_network":false}';
  const server = createServer((request, response) => {
    assert.equal(request.headers.host, 'crio');
    if (request.url === '/containers/gone') response.statusCode = 404;
    response.end(request.url === '/containers/abc' ? body : 'nothing here\n');
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  try {
    const { code, stdout } = await crio(['status', '-s', socket, 'cs', '-i', 'abc']);
    assert.equal(code, 0);
    assert.equal(
      stdout,
      'name: n\npid: 7\nimage: i\nimage ref: r\ncreated: 1795246033679148565\nlabels:\n  a: b\nannotations:\n' +
        'CRI-O annotations:\nlog path: l\ngraph root: /r\nsandbox: s\nips: 1, 2\n',
    );
    assert.match((await crio(['status', '-s', socket, 'containers', '-i', 'x'])).stderr, /decode JSON response/);
    const gone = await crio(['status', '-s', socket, 'containers', '-i', 'gone']);
    assert.match(gone.stderr, /get http:\/\/crio\/containers\/gone on \\"[^ ]*\\": 404: nothing here"/);
    assert.match((await crio(['status', '-s', socket, 'containers'])).stderr, /the argument --id cannot be empty/);
    assert.equal((await crio(['status', '-s', socket, 'config'])).stdout, 'nothing here\n');
  } finally {
    server.closeAllConnections();
    server.close();
  }
  assert.match((await crio(['status', '-s', `/${'x'.repeat(120)}`, 'info'])).stderr, /too long/);
});

test('wipe deletes the containers of pods, and only with --force or another version', async () => {
  const owned = container('mine', { 'pod-name': 'p', 'pod-id': '1' });
  const other = container('other', { name: 'podman' });
  const { store, deleted } = fakeStore({ containers: [owned, other] });
  const versionFile = join(folder, 'version');
  const flags = ['--version-file', versionFile, '--clean-shutdown-file', '', '--version-file-persist', ''];
  assert.equal((await crio([...flags, 'wipe'], store)).code, 0);
  assert.deepEqual(deleted, [], 'the daemon does it');
  await crio([...flags, '--internal-wipe=false', 'wipe'], store);
  assert.deepEqual(deleted, ['mine']);
  await crio([...flags, 'wipe', '--force'], store);
  assert.deepEqual(deleted, ['mine', 'mine', 'image']);
});

test('crioContainer knows a container by its metadata', () => {
  assert.equal(crioContainer(container('a', { 'pod-name': 'p', 'pod-id': '1' }))?.name, 'name-a');
  assert.equal(crioContainer(container('a', { 'pod-name': 'p' })), undefined);
  assert.equal(crioContainer(container('a', 3)), undefined);
  assert.equal(crioContainer({ ...container('a', 3), metadata: 'no JSON' }), undefined);
});

test('check counts damage, and repairs it when asked to', async () => {
  const sound = await crio(['check'], fakeStore({ containers: [] }).store);
  assert.equal(sound.code, 0);
  assert.match(sound.stderr, /Storage directory \/nowhere\/root has errors: false/);
  const damaged = fakeStore({ containers: [], damage: { images: ['image'], containers: ['c'] } });
  const found = await crio(['check'], damaged.store);
  assert.equal(found.code, 1);
  assert.match(found.stderr, /layers: 0, read-only layers: 0, images: 1, read-only images: 0, containers: 1/);
  assert.match(found.stderr, /msg="image image \(a\.org\/b:1, a\.org\/b:2\): reason"/);
  assert.equal((await crio(['check', '--repair'], damaged.store)).code, 1, 'the container stays');
  assert.deepEqual(damaged.repairs, [{ containers: false }]);
  const repaired = await crio(['check', '--repair', '--force'], damaged.store);
  assert.equal(repaired.code, 0);
  assert.match(
    repaired.stderr,
    /msg="image image \(a\.org\/b:1, a\.org\/b:2\): used by container user, set aside: pull it again"/,
  );
  assert.deepEqual(damaged.repairs, [{ containers: false }, { containers: true }]);
});

test('check --quick reads no contents, and the age takes a duration or seconds', async () => {
  const { store, checks } = fakeStore({ containers: [] });
  for (const args of [[], ['--quick'], ['--age', '90s'], ['--age', '-5'], ['--age', '']])
    await crio(['check', ...args], store);
  const dayMs = 24 * 3600 * 1000;
  assert.deepEqual(checks, [
    { contents: true, maxAgeMs: dayMs },
    { contents: false, maxAgeMs: dayMs },
    { contents: true, maxAgeMs: 90_000 },
    { contents: true, maxAgeMs: 5000 },
    { contents: true, maxAgeMs: dayMs },
  ]);
  assert.match((await crio(['check', '--age', 'old'], store)).stderr, /invalid age .*old/);
});

test('which files were read is told by the daemon, and by a command only when asked for', async () => {
  const path = join(folder, 'told.conf');
  await writeFile(path, '[crio.runtime]\nunknwn = 1\n');
  const says = async (...args: string[]) => {
    const { stderr } = await crio(['--config', path, ...args]);
    return [stderr.includes('Updating config from single file'), stderr.includes('unknwn')];
  };
  assert.deepEqual(await says('version'), [false, true]);
  assert.deepEqual(await says('--log-level', 'debug', 'version'), [true, true]);
  assert.deepEqual(await says(), [true, true]);
});
