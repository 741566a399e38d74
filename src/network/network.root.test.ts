import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { newId } from '../base/ids.ts';
import { silentLog } from '../base/log.ts';
import { pinNamespaces, unpinNamespace } from '../sys/namespace.ts';
import { run } from '../sys/run.ts';
import type { PortMapping } from '../pod/config.ts';
import { createNetwork, type Network, type NetworkPod } from './network.ts';

/** These run the real plugins of the distribution; they need root and a mount and network namespace of their own. */
const folder = mkdtempSync(join(tmpdir(), 'network-root-'));
after(() => rmSync(folder, { recursive: true }));

const realPlugins = '/usr/lib/cni';

interface World extends AsyncDisposable {
  readonly network: Network;
  readonly directory: string;
  readonly cacheDir: string;
  readonly dataDir: string;
}

let worlds = 0;

async function makeWorld(
  options: { conflist?: object; pluginDirs?: readonly string[]; hostPorts?: boolean } = {},
): Promise<World> {
  worlds += 1;
  const directory = join(folder, `world-${worlds}`);
  const dataDir = join(directory, 'ipam');
  const networkDir = join(directory, 'net.d');
  mkdirSync(networkDir, { recursive: true });
  const conflist = options.conflist ?? bridgeList({ number: worlds, dataDir, version: '1.0.0' });
  writeFileSync(join(networkDir, '10-test.conflist'), JSON.stringify(conflist));
  const cacheDir = join(directory, 'cni');
  const network = await open(directory, options);
  const dispose = async () => {
    await network[Symbol.asyncDispose]();
    await run({ file: 'ip', args: ['link', 'delete', `ctest${worlds}`], env: process.env as Record<string, string> });
  };
  return { network, directory, cacheDir, dataDir, [Symbol.asyncDispose]: dispose };
}

function open(
  directory: string,
  options: { pluginDirs?: readonly string[]; hostPorts?: boolean } = {},
): Promise<Network> {
  return createNetwork({
    config: {
      network: {
        networkDir: join(directory, 'net.d'),
        pluginDirs: options.pluginDirs ?? [realPlugins],
        cniDefaultNetwork: '',
      },
      runtime: { disableHostportMapping: options.hostPorts !== true },
    },
    log: silentLog,
    cacheDir: join(directory, 'cni'),
  });
}

function bridgeList({ number, dataDir, version }: { number: number; dataDir: string; version: string }) {
  return {
    cniVersion: version,
    name: `test${number}`,
    plugins: [
      {
        type: 'bridge',
        bridge: `ctest${number}`,
        isGateway: true,
        ipMasq: false,
        hairpinMode: true,
        ipam: {
          type: 'host-local',
          dataDir,
          ranges: [[{ subnet: `10.99.${number}.0/24` }]],
          routes: [{ dst: '0.0.0.0/0' }],
        },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  };
}

function makePod(directory: string, changes: Partial<NetworkPod> = {}): NetworkPod {
  const id = newId();
  const netnsPath = join(directory, id.slice(0, 12));
  pinNamespaces({ pins: [{ type: 'network', path: netnsPath }] });
  return {
    id,
    name: `k8s_${id.slice(0, 6)}_default_uid_0`,
    metadata: { name: id.slice(0, 6), namespace: 'default', uid: 'uid' },
    annotations: new Map([['note', '<a>']]),
    cgroupParent: '/kubepods/pod1',
    portMappings: [],
    netnsPath,
    ...changes,
  };
}

function reservedIps(world: World, number: number): string[] {
  const path = join(world.dataDir, `test${number}`);
  return existsSync(path) ? readdirSync(path).filter((name) => /^\d/.test(name)) : [];
}

function results(world: World): string[] {
  const path = join(world.cacheDir, 'results');
  return existsSync(path) ? readdirSync(path) : [];
}

test('setUp gives an address and caches the result, tearDown takes all back', async () => {
  await using world = await makeWorld();
  const number = worlds;
  assert.equal(world.network.status(), undefined);
  const pod = makePod(world.directory);
  const { ips, resultJson } = await world.network.setUp(pod);
  assert.equal(ips.length, 1);
  assert.match(ips[0] ?? '', new RegExp(`^10\\.99\\.${number}\\.`));
  assert.match(resultJson, /^\{"cniVersion":"1\.1\.0","interfaces":\[\{"mac":/);
  assert.deepEqual(results(world), [`test${number}-${pod.id}-eth0`]);
  const cached = JSON.parse(readFileSync(join(world.cacheDir, 'results', `test${number}-${pod.id}-eth0`), 'utf8'));
  assert.deepEqual(Object.keys(cached), [
    'kind',
    'containerId',
    'config',
    'ifName',
    'networkName',
    'netns',
    'cniArgs',
    'capabilityArgs',
    'result',
  ]);
  assert.equal(cached.result.cniVersion, '1.0.0');
  assert.deepEqual(cached.capabilityArgs, {
    cgroupPath: '/kubepods/pod1',
    'io.kubernetes.cri.pod-annotations': { note: '<a>' },
  });
  await world.network.tearDown(pod);
  assert.deepEqual(results(world), []);
  assert.deepEqual(reservedIps(world, number), []);
  await world.network.tearDown(pod);
  unpinNamespace(pod.netnsPath);
});

test('tearDown releases the address when the network namespace is gone', async () => {
  await using world = await makeWorld();
  const number = worlds;
  const pod = makePod(world.directory);
  await world.network.setUp(pod);
  assert.equal(reservedIps(world, number).length, 1);
  unpinNamespace(pod.netnsPath);
  await world.network.tearDown(pod);
  assert.deepEqual(reservedIps(world, number), []);
  assert.deepEqual(results(world), []);
});

test('tearDown uses the cached configuration after the file is gone', async () => {
  await using world = await makeWorld();
  const number = worlds;
  const pod = makePod(world.directory);
  await world.network.setUp(pod);
  rmSync(join(world.directory, 'net.d/10-test.conflist'));
  await world.network[Symbol.asyncDispose]();
  await using later = await open(world.directory);
  assert.match(later.status() ?? '', /^no CNI configuration file in .*net\.d\. Has your network provider started\?$/);
  await later.tearDown(pod);
  assert.deepEqual(reservedIps(world, number), []);
  assert.deepEqual(results(world), []);
  unpinNamespace(pod.netnsPath);
});

test('a failed ADD is undone with DEL of the whole chain', async () => {
  const plugins = join(folder, 'failing');
  mkdirSync(plugins);
  for (const name of ['bridge', 'host-local'])
    writeFileSync(join(plugins, name), `#!/bin/sh\nexec ${realPlugins}/${name}\n`, { mode: 0o755 });
  writeFileSync(join(plugins, 'fails'), failingPlugin(join(folder, 'failing.log')), { mode: 0o755 });
  const number = worlds + 1;
  const dataDir = join(folder, `world-${number}`, 'ipam');
  const base = bridgeList({ number, dataDir, version: '1.0.0' });
  const conflist = { ...base, plugins: [base.plugins[0], { type: 'fails' }] };
  await using world = await makeWorld({ conflist, pluginDirs: [plugins, realPlugins] });
  const pod = makePod(world.directory);
  await assert.rejects(world.network.setUp(pod), {
    message:
      `failed to create pod network sandbox ${pod.name}(${pod.id}): error adding pod default_${pod.metadata.name} to CNI network ` +
      `"test${number}": plugin type="fails" failed (add): no luck; not today`,
  });
  assert.deepEqual(reservedIps(world, number), []);
  assert.deepEqual(results(world), []);
  const log = readFileSync(join(folder, 'failing.log'), 'utf8');
  assert.equal(log, `ADD ${pod.id} eth0\nDEL ${pod.id} eth0\n`);
  unpinNamespace(pod.netnsPath);
});

function failingPlugin(log: string): string {
  return `#!/bin/sh
case "$CNI_COMMAND" in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}'; exit 0 ;;
esac
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >> ${log}
cat > /dev/null
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion":"1.0.0","code":100,"msg":"no luck","details":"not today"}'
exit 1
`;
}

test('gc undoes attachments of pods that are gone and keeps the others', async () => {
  await using world = await makeWorld();
  const number = worlds;
  const kept = makePod(world.directory);
  const lost = makePod(world.directory);
  await world.network.setUp(kept);
  await world.network.setUp(lost);
  unpinNamespace(lost.netnsPath);
  await world.network[Symbol.asyncDispose]();
  await using later = await open(world.directory);
  await later.gc([kept.id], new AbortController().signal);
  assert.deepEqual(results(world), [`test${number}-${kept.id}-eth0`]);
  assert.equal(reservedIps(world, number).length, 1);
  await later.tearDown(kept);
  unpinNamespace(kept.netnsPath);
});

test('an attachment that was about to be made is undone by gc', async () => {
  const plugins = join(folder, 'hanging');
  mkdirSync(plugins);
  const number = worlds + 1;
  await using world = await makeWorld();
  const pod = makePod(world.directory);
  await world.network.setUp(pod);
  // What a daemon killed during ADD leaves: the record without a result.
  const file = join(world.cacheDir, 'results', `test${number}-${pod.id}-eth0`);
  const record = JSON.parse(readFileSync(file, 'utf8'));
  delete record.result;
  writeFileSync(file, JSON.stringify(record));
  await world.network[Symbol.asyncDispose]();
  await using later = await open(world.directory);
  await later.gc([], new AbortController().signal);
  assert.deepEqual(results(world), []);
  assert.deepEqual(reservedIps(world, number), []);
  unpinNamespace(pod.netnsPath);
});

test('an attachment whose record was cut short is undone by its name', async () => {
  await using world = await makeWorld();
  const number = worlds;
  const pod = makePod(world.directory);
  await world.network.setUp(pod);
  writeFileSync(join(world.cacheDir, 'results', `test${number}-${pod.id}-eth0`), '{"kind":"cniCa');
  await world.network[Symbol.asyncDispose]();
  await using later = await open(world.directory);
  await later.gc([], new AbortController().signal);
  assert.deepEqual(results(world), []);
  assert.deepEqual(reservedIps(world, number), []);
  unpinNamespace(pod.netnsPath);
});

test('a configuration file that appears later is noticed', async () => {
  await using world = await makeWorld();
  const file = join(world.directory, 'net.d/10-test.conflist');
  const content = readFileSync(file);
  rmSync(file);
  await until(() => world.network.status() !== undefined);
  writeFileSync(file, content);
  await until(() => world.network.status() === undefined);
});

test('versions from 0.3.1 to 1.0.0 give the same address list', async () => {
  for (const version of ['0.3.1', '0.4.0', '1.0.0']) {
    const number = worlds + 1;
    await using world = await makeWorld({
      conflist: bridgeList({ number, dataDir: join(folder, `world-${number}`, 'ipam'), version }),
    });
    const pod = makePod(world.directory);
    const { ips } = await world.network.setUp(pod);
    assert.equal(ips[0], `10.99.${number}.2`);
    await world.network.tearDown(pod);
    unpinNamespace(pod.netnsPath);
  }
});

const port: PortMapping = { protocol: 'TCP', containerPort: 80, hostPort: 18080, hostIp: '' };

test('host ports are opened and closed, and stale ones do not break the next pod', async () => {
  await using world = await makeWorld({ hostPorts: true });
  const pod = makePod(world.directory, { portMappings: [port] });
  await world.network.setUp(pod);
  assert.match(await ruleset(), /tcp \. 18080 comment "[A-Z2-7]{16}" : 10\.99\.\d+\.2 \. 80/);
  // The daemon is lost, and with it the pod: its rules stay.
  await world.network[Symbol.asyncDispose]();
  rmSync(join(world.cacheDir, 'results'), { recursive: true });
  await using later = await open(world.directory, { hostPorts: true });
  const next = makePod(world.directory, { portMappings: [port] });
  await later.setUp(next);
  assert.match(await ruleset(), /tcp \. 18080 comment "[A-Z2-7]{16}" : 10\.99\.\d+\.3 \. 80/);
  const rival = makePod(world.directory, { portMappings: [port] });
  await assert.rejects(later.setUp(rival), /File exists/);
  assert.match(await ruleset(), /: 10\.99\.\d+\.3 \. 80/, 'the rules of a living pod stay');
  await later.tearDown(next);
  assert.doesNotMatch(await ruleset(), /18080/);
  for (const item of [pod, next, rival]) unpinNamespace(item.netnsPath);
  await run({
    file: 'nft',
    args: ['delete', 'table', 'ip', 'crio-hostports'],
    env: process.env as Record<string, string>,
  });
});

async function ruleset(): Promise<string> {
  const { stdout } = await run({ file: 'nft', args: ['list', 'ruleset'], env: process.env as Record<string, string> });
  return stdout.toString();
}

async function until(condition: () => boolean): Promise<void> {
  for (let left = 100; left > 0 && !condition(); left -= 1) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(condition());
}
