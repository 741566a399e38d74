import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  lstatSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { putImage } from '../../src/image/testing/fake-registry.ts';
import { buildTar } from '../../src/storage/testing/build-tar.ts';
import type { EntrySpec } from '../../src/storage/testing/build-tar.ts';
import {
  containerConfig,
  createContainer,
  execSync,
  removePod,
  runContainer,
  runPod,
  type Pod,
} from '../client/pods.ts';
import { write } from '../run/node-files.ts';
import { failureOf, handlers, useDaemon } from './environment.ts';
import { putShellImage, shellLayer, startMadeRegistry } from './made-images.ts';

const registry = await startMadeRegistry();
after(() => registry[Symbol.asyncDispose]());
const node = useDaemon();
write('/srv/secrets/key', 'from the host');

/** An image made to harm. Either its container is refused with this text, or it runs and `sh` prints this inside. */
interface Row {
  readonly what: string;
  readonly config?: object;
  readonly layer?: readonly EntrySpec[];
  readonly refused?: RegExp;
  readonly sh?: readonly [script: string, output: string];
  /** Refused by one runtime and run safely by another. */
  readonly either?: true;
  /** Line of mounts.conf(5) while the container is made. */
  readonly mountsConf?: string;
  /** `/etc/passwd` of the layer has this in it, and becomes a sparse file of 10 GB after the pull. */
  readonly grows?: string;
  /** Keeps what the image says to run, instead of `sleep`. */
  readonly ownCommand?: boolean;
}

const folder = (name: string): EntrySpec => ({ name: `${name}/`, type: '5', mode: 0o755 });
const link = (name: string, linkName: string): EntrySpec => ({ name, type: '2', linkName });
const fifo = (name: string): EntrySpec => ({ name, type: '6' });
const users = (text: string): readonly EntrySpec[] => [
  folder('etc'),
  { name: 'etc/passwd', data: text },
  { name: 'etc/group', data: 'root:x:0:\n' },
];

const marker = 'root:x:0:0:grows to ten gigabytes:/:/bin/sh\n';
const hugePasswd = { layer: users(marker), grows: marker };

const configs: readonly Row[] = [
  {
    what: 'CVE-2024-40635: USER 2^31',
    config: { User: '2147483648' },
    refused: /user id "2147483648" is out of range 0-2147483647/,
  },
  {
    what: 'CVE-2024-40635: USER 2^32',
    config: { User: '4294967296' },
    refused: /user id "4294967296" is out of range/,
  },
  {
    what: 'CVE-2024-40635: USER 1:2^32',
    config: { User: '1:4294967296' },
    refused: /group id "4294967296" is out of range/,
  },
  {
    what: 'CVE-2026-46680: a USER too big that the image calls root',
    config: { User: '4294967296' },
    layer: users('4294967296:x:0:0::/:\n'),
    refused: /out of range/,
  },
  {
    what: 'CVE-2026-46680: a USER of digits that the image calls root',
    config: { User: '1234' },
    layer: users('1234:x:0:0::/:\n'),
    sh: ['id -u', '1234'],
  },
  { what: 'USER -1', config: { User: '-1' }, refused: /unable to find user -1/ },
  { what: 'USER 1e3', config: { User: '1e3' }, refused: /unable to find user 1e3/ },
  { what: 'USER 0x0', config: { User: '0x0' }, refused: /unable to find user 0x0/ },
  { what: 'USER with a newline', config: { User: 'root\n' }, refused: /unable to find user/ },
  {
    what: 'a newline and "=" in the environment',
    config: { Env: ['PATH=/bin', 'A=1\nB=2', 'C==3='] },
    sh: ['echo "$A|$C|$B"', '1\nB=2|=3=|'],
  },
  {
    what: 'a variable without "="',
    config: { Env: ['PATH=/bin', 'NOTHING', '=empty'] },
    sh: ['echo "${NOTHING:-unset}"', 'unset'],
  },
  {
    what: 'LD_PRELOAD and a PATH of the image',
    config: { Env: ['PATH=/bin', 'LD_PRELOAD=/evil.so'] },
    sh: ['echo ok', 'ok'],
  },
  {
    what: 'CVE-2024-21626: WORKDIR /proc/self/fd/7',
    config: { WorkingDir: '/proc/self/fd/7' },
    refused: /\/proc\/self\/fd\/7/,
  },
  {
    what: 'CVE-2024-21626: WORKDIR with dots',
    config: { WorkingDir: '../../../../../../tmp/made-by-workdir' },
    sh: ['pwd', '/tmp/made-by-workdir'],
  },
  { what: 'WORKDIR that is a file', config: { WorkingDir: '/bin/sh' }, refused: /not a directory/i },
  {
    what: 'CVE-2022-23648: VOLUME ../../',
    config: { Volumes: { '../../../../../../root/made-by-volume': {} } },
    sh: ['ls -d /root/made-by-volume', '/root/made-by-volume'],
  },
  {
    what: 'CVE-2022-23648: VOLUME that is a link to /etc',
    config: { Volumes: { '/data/x': {} } },
    layer: [link('data', '/../../../etc')],
    sh: ['ls -d /etc/x', '/etc/x'],
  },
  {
    what: 'VOLUME that is a FIFO',
    config: { Volumes: { '/pipe': {} } },
    layer: [fifo('pipe')],
    refused: /not a directory/,
  },
  { what: 'VOLUME that is a file', config: { Volumes: { '/bin/sh': {} } }, refused: /not a directory/ },
  {
    what: 'CVE-2019-16884: VOLUME /proc, and below it',
    config: { Volumes: { '/proc': {}, '/proc/self/attr': {}, '/proc/sys/kernel': {} } },
    sh: [
      'cut -d " " -f 2,3 /proc/mounts | grep "^/proc " ; ls -d /proc/self/attr/current',
      '/proc proc\n/proc/self/attr/current',
    ],
  },
  {
    what: 'VOLUME /sys and /dev',
    config: { Volumes: { '/sys': {}, '/dev': {} } },
    sh: ['ls -d /sys/kernel; test -c /dev/null && echo ok', '/sys/kernel\nok'],
  },
  { what: 'VOLUME /', config: { Volumes: { '/': {} } }, sh: ['echo ok', 'ok'] },
  {
    what: 'ENTRYPOINT of 1 MB',
    config: { Entrypoint: ['x'.repeat(1 << 20)] },
    ownCommand: true,
    refused: /file name too long/,
  },
  {
    what: 'CVE-2026-53488: labels called like our own records',
    config: {
      Labels: {
        'io.kubernetes.cri-o.ContainerID': 'x',
        'run.oci.hooks.stdout': '/etc/x',
        'io.kubernetes.cri-o.Volumes': '[{',
      },
    },
    sh: ['echo ok', 'ok'],
  },
  {
    what: 'labels called like keys of every object',
    config: { Labels: JSON.parse('{"__proto__":"a","constructor":"b"}') as object },
    sh: ['echo ok', 'ok'],
  },
  {
    what: 'null for every field',
    config: {
      User: null,
      Cmd: null,
      Entrypoint: null,
      Volumes: null,
      WorkingDir: null,
      Labels: null,
      StopSignal: null,
    },
    sh: ['pwd; id -u', '/\n0'],
  },
  { what: 'a stop signal that is none', config: { StopSignal: 'SIGEVERYTHING' }, sh: ['echo ok', 'ok'] },
  {
    what: 'CMD with 200 KB in one word',
    config: { Cmd: ['echo', 'x'.repeat(200_000)] },
    ownCommand: true,
    refused: /argument list too long/,
  },
  { what: 'no command', config: { Cmd: [], Entrypoint: [] }, ownCommand: true, refused: /no command specified/ },
];

const rootfs: readonly Row[] = [
  {
    what: 'CVE-2024-9676: a FIFO as /etc/passwd',
    layer: [folder('etc'), fifo('etc/passwd')],
    config: { User: '7' },
    refused: /"\/etc\/passwd" of the image: it is no regular file/,
  },
  {
    what: 'CVE-2024-9676: a FIFO as /etc/group',
    layer: [folder('etc'), fifo('etc/group')],
    config: { User: '7' },
    refused: /"\/etc\/group" of the image: it is no regular file/,
  },
  {
    what: "CVE-2024-9676: a link to the host's passwd",
    layer: [folder('etc'), link('etc/passwd', '../../../../../../etc/passwd')],
    config: { User: 'daemon' },
    refused: /unable to find user daemon/,
  },
  {
    what: 'CVE-2024-9676: a link to a device as /etc/passwd',
    layer: [folder('etc'), link('etc/passwd', '/dev/zero')],
    config: { User: '7' },
    refused: /it is a link to "\/dev\/zero"/,
  },
  {
    what: 'a folder as /etc/passwd',
    layer: [folder('etc'), folder('etc/passwd')],
    config: { User: '7' },
    refused: /no regular file/,
  },
  {
    what: 'a device as /etc/passwd',
    layer: [folder('etc'), { name: 'etc/passwd', type: '3', device: [1, 5] }],
    config: { User: '7' },
    refused: /"\/etc\/passwd" of the image: it is no regular file/,
  },
  {
    what: 'CVE-2025-4437: 11 MB of passwd',
    layer: users('user:x:5:5:some text:/home/user:/bin/sh\n'.repeat(300_000)),
    config: { User: 'ghost' },
    refused: /larger than 10485760 bytes/,
  },
  {
    what: 'CVE-2025-4437: 10 GB of passwd',
    ...hugePasswd,
    config: { User: 'ghost' },
    refused: /line longer than|larger than/,
  },
  {
    what: 'CVE-2025-4437: 10 GB of passwd, and no user',
    ...hugePasswd,
    refused: /"\/etc\/passwd" of the image: larger than/,
  },
  {
    what: 'CVE-2026-47262: a group of two million members',
    layer: [folder('etc'), { name: 'etc/group', data: `big:x:5:${'u,'.repeat(2_000_000)}\n` }],
    config: { User: '7:big' },
    refused: /line longer than/,
  },
  {
    what: 'CVE-2024-5154: /etc is a link out of the image',
    layer: [link('etc', '/../../../../tmp')],
    sh: ['ls -d /tmp/mtab', '/tmp/mtab'],
  },
  {
    what: 'CVE-2024-5154: /etc/mtab is a link',
    layer: [folder('etc'), link('etc/mtab', '/../../../etc/made-by-mtab')],
    sh: ['readlink /etc/mtab', '/../../../etc/made-by-mtab'],
  },
  { what: '/etc/mtab is a folder', layer: [folder('etc'), folder('etc/mtab')], sh: ['ls -d /etc/mtab', '/etc/mtab'] },
  {
    what: 'CVE-2019-18837: /etc/resolv.conf, /etc/hosts and /etc/hostname are links out of the image',
    layer: [
      folder('etc'),
      link('etc/resolv.conf', '/../../../etc/made-by-resolv'),
      link('etc/hosts', '/../../../root/made-by-hosts'),
      link('etc/hostname', '../../../../etc/made-by-hostname'),
    ],
    sh: ['echo ok', 'ok'],
  },
  { what: '/etc is a file', layer: [{ name: 'etc', data: 'x' }], refused: /etc/ },
  {
    what: 'CVE-2026-41579: /dev is a link out of the image',
    layer: [link('dev', '/../../../../../tmp')],
    either: true,
  },
  {
    what: 'CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: /proc is a link',
    layer: [{ name: '.wh.proc' }, link('proc', '/tmp')],
    refused: /proc/,
  },
  {
    what: 'CVE-2024-9341: what mounts.conf names is mounted where the image has a link out of itself',
    layer: [folder('run'), link('run/secrets', '/../../../../root/made-by-secrets'), folder('root/made-by-secrets')],
    mountsConf: '/srv/secrets:/run/secrets',
    sh: ['cat /root/made-by-secrets/key', 'from the host'],
  },
  { what: '/sys is a link out of the image', layer: [link('sys', '/../../../../../tmp')], either: true },
];

for (const handler of handlers) {
  describe(`hostile images, with ${handler}`, () => {
    let pod: Pod;
    let host: string;
    before(async () => {
      pod = await runPod(node.client, { handler });
      host = hostState();
    });
    after(() => removePod(node.client, pod.id));

    for (const [index, row] of [...configs, ...rootfs].entries()) {
      test(row.what, { timeout: 15_000 }, async () => {
        const { client } = node;
        const image = putShellImage(registry, `${handler}-${index}`, {
          config: row.config ?? {},
          layers: row.layer === undefined ? [] : [buildTar(row.layer)],
        });
        if (row.grows !== undefined) {
          await client.image.pullImage({ image: { image } });
          growPasswd(row.grows);
        }
        if (row.mountsConf !== undefined) write(mountsConf, `${row.mountsConf}\n`);
        const options = {
          name: `c${index}`,
          image,
          ...(row.ownCommand === true ? {} : { command: ['sleep', '1000'] }),
        };
        if (row.either === true) {
          await runOrFail(options).catch(() => undefined);
        } else if (row.refused !== undefined) {
          assert.match((await failureOf(runOrFail(options))).details, row.refused);
        } else {
          const id = await runContainer(client, pod, options);
          const [script = '', output = ''] = row.sh ?? [];
          const { stdout, stderr } = await execSync(client, id, ['/bin/sh', '-c', script]);
          assert.equal((stdout + stderr).trim(), output);
          await client.runtime.stopContainer({ containerId: id, timeout: 0n });
          await client.runtime.removeContainer({ containerId: id });
        }
        rmSync(mountsConf, { force: true });
        assert.equal(hostState(), host, 'the host is as before');
      });
    }

    test('a command of 1 MB in ExecSync is an error at once', { timeout: 15_000 }, async () => {
      const { client } = node;
      const id = await runContainer(client, pod, { name: 'exec', command: ['sleep', '1000'] });
      const { details } = await failureOf(
        client.runtime.execSync({ containerId: id, cmd: ['x'.repeat(1 << 20)], timeout: 10n }),
      );
      assert.match(details, /too long|no such file|not found|exec failed/i);
    });

    test('CVE-2021-21334: containers of one image, made at once, have their own environment', async () => {
      const { client } = node;
      const image = putShellImage(registry, `${handler}-shared`, { config: { Env: ['PATH=/bin', 'SHARED=image'] } });
      await client.image.pullImage({ image: { image } });
      const values = ['one', 'two', 'three', 'four'];
      const ids = await Promise.all(
        values.map((value) => {
          const envs = [{ key: value.toUpperCase(), value: Buffer.from(value) }];
          return runContainer(client, pod, { name: value, image, command: ['sleep', '1000'], config: { envs } });
        }),
      );
      for (const [at, id] of ids.entries()) {
        const { stdout } = await execSync(client, id, ['sh', '-c', 'echo "$SHARED:$ONE:$TWO:$THREE:$FOUR"']);
        const own = values.map((value, index) => (index === at ? value : ''));
        assert.equal(stdout.trim(), `image:${own.join(':')}`);
      }
    });

    test('CVE-2024-8676, CVE-2026-50195, CVE-2026-53492: a checkpoint is an image like others, its archive is none', async () => {
      const { client } = node;
      const victim = putShellImage(registry, `${handler}-victim`, { config: { Labels: { is: 'the victim' } } });
      const { imageRef: victimId } = await client.image.pullImage({ image: { image: victim } });
      write('/var/run/cdi/evil.json', JSON.stringify(evilDevice));
      const checkpoint = buildTar(checkpointFiles(victim, victimId));
      const image = putCheckpoint(`${handler}-checkpoint`, checkpoint, { image: victim, id: victimId });
      const images = async () =>
        (await client.image.listImages({})).images.map(({ id, repoTags }) => `${id} ${repoTags.join()}`).sort();
      const id = await runContainer(client, pod, { name: 'checkpoint', image, command: ['sleep', '1000'] });
      const script =
        'ls -d /stolen /etc/hostname.host; echo "evil=$EVIL"; grep -c stolen /proc/mounts; ls /config.dump';
      const { stdout } = await execSync(client, id, ['sh', '-c', script]);
      assert.equal(stdout, 'evil=\n0\n/config.dump\n', 'nothing was restored or mounted, and its files are files');
      const { info } = await client.runtime.containerStatus({ containerId: id, verbose: true });
      assert.doesNotMatch(info['info'] ?? '', /stolen|vendor\.example/);
      const { image: status } = await client.image.imageStatus({ image: { image: victim } });
      assert.equal(status?.id, victimId, 'the tag still means the same image');
      const before = await images();
      const archive = '/var/tmp/checkpoint.tar';
      writeFileSync(archive, checkpoint);
      const config = { ...containerConfig({ name: 'archive', image: archive }), annotations: evilAnnotations };
      const request = { podSandboxId: pod.id, config, sandboxConfig: pod.config };
      assert.match((await failureOf(client.runtime.createContainer(request))).details, /checkpoint\.tar/);
      await failureOf(client.image.pullImage({ image: { image: archive } }));
      assert.deepEqual(await images(), before);
      for (const path of [archive, '/var/run/cdi/evil.json']) rmSync(path);
    });

    async function runOrFail(options: { name: string; image: string; command?: string[] }): Promise<void> {
      const { client } = node;
      const containerId = await createContainer(client, pod, options);
      try {
        await client.runtime.startContainer({ containerId });
      } finally {
        await client.runtime.stopContainer({ containerId, timeout: 0n });
        await client.runtime.removeContainer({ containerId });
      }
    }
  });
}

const evilAnnotations = { 'cdi.k8s.io/evil': 'vendor.example/device=all' };
/** Would set $EVIL and mount /stolen. */
const evilDevice = {
  cdiVersion: '0.6.0',
  kind: 'vendor.example/device',
  devices: [
    {
      name: 'all',
      containerEdits: { env: ['EVIL=1'], mounts: [{ hostPath: '/etc', containerPath: '/stolen', options: ['rbind'] }] },
    },
  ],
};

/** What CRI-O puts into a checkpoint's archive, as somebody would write it who wants the host's files. */
function checkpointFiles(image: string, imageId: string): readonly EntrySpec[] {
  const mount = { destination: '/stolen', source: '/etc', type: 'bind', options: ['rbind'] };
  const json = (name: string, value: object): EntrySpec => ({ name, data: JSON.stringify(value) });
  return [
    json('config.dump', { id: 'f'.repeat(64), name: 'x', rootfsImage: image, rootfsImageRef: imageId, restored: true }),
    json('spec.dump', { ociVersion: '1.0.0', annotations: evilAnnotations, mounts: [mount] }),
    json('bind.mounts', [{ source: '/etc', destination: '/stolen', file_type: 'directory', permissions: 0o777 }]),
    link('io.kubernetes.cri-o.LogPath', '/etc/shadow'),
    folder('checkpoint'),
  ];
}

/** As `buildah commit --annotation` makes an image of an archive. */
function putCheckpoint(tag: string, archive: Buffer, base: { readonly image: string; readonly id: string }): string {
  const annotations = {
    ...evilAnnotations,
    'io.kubernetes.cri-o.annotations.checkpoint.name': 'x',
    'io.kubernetes.cri-o.annotations.checkpoint.rawImageName': base.image,
    'io.kubernetes.cri-o.annotations.checkpoint.rootfsImageName': base.image,
    'io.kubernetes.cri-o.annotations.checkpoint.rootfsImageID': base.id,
  };
  const layers = [shellLayer, archive];
  const config = { Env: ['PATH=/bin'], Labels: annotations };
  const { manifest } = putImage(registry, 'made', tag, { layers, config });
  registry.putManifest('made', tag, { ...manifest, annotations });
  return `${registry.host}/made:${tag}`;
}

const mountsConf = '/etc/containers/mounts.conf';

/** As a layer of that size would be on disk, without the writing of it. */
function growPasswd(content: string): void {
  const layers = '/var/lib/containers/storage/overlay';
  const grown = readdirSync(layers)
    .map((layer) => `${layers}/${layer}/diff/etc/passwd`)
    .filter((path) => existsSync(path) && lstatSync(path).isFile() && startsWith(path, content));
  assert.ok(grown.length > 0);
  for (const path of grown) truncateSync(path, 10 * 1024 ** 3);
}

function startsWith(path: string, content: string): boolean {
  const fd = openSync(path, 'r');
  const start = Buffer.alloc(content.length);
  readSync(fd, start);
  closeSync(fd);
  return start.toString() === content;
}

/** What an image that escapes would change first. */
function hostState(): string {
  const names = ['/etc', '/root', '/'].map((path) => readdirSync(path).sort());
  const { mode, size, ino } = lstatSync('/etc/passwd');
  return JSON.stringify([names, mode, size, ino, readFileSync('/etc/hostname', 'utf8')]);
}
