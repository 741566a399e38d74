import assert from 'node:assert/strict';
import { chmodSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { containerInput } from '../../test/golden/inputs.ts';
import { newId } from '../base/ids.ts';
import { defaultConfig, emptyHandler } from '../config/config.ts';
import type { ContainerConfig, ContainerSecurityContext } from '../container/config.ts';
import type { PrepareRequest } from '../container/prepare.ts';
import type { Image } from '../image/images.ts';
import { NamespaceMode } from '../pod/config.ts';
import type { Pod } from '../pod/pod.ts';
import type { CreateOptions } from '../runtime/runtime.ts';
import { encodeSpec } from '../runtime/spec/spec-json.ts';
import { createStage, type Stage } from '../runtime/test-stage.ts';
import { pinNamespaces, unpinNamespace } from '../sys/namespace.ts';
import { startReaper } from '../sys/reaper.ts';
import { readHostFacts } from './host-facts.ts';
import { createPrepare } from './prepare-container.ts';

/** Specs as they are computed for requests, under the real runtimes. Root, and namespaces of their own. */
const reaper = startReaper();
after(() => reaper[Symbol.dispose]());

const cgroupParent = '/crio-ts-prepare-test';

/** The namespaces of a pod, for all tests. */
const pinFolder = mkdtempSync(join(tmpdir(), 'pins-'));
const pins = (['network', 'ipc', 'uts'] as const).map((type) => ({ type, path: join(pinFolder, type) }));
pinNamespaces({ pins, hostname: 'plain-host' });
after(() => {
  for (const { path } of pins) unpinNamespace(path);
  rmSync(pinFolder, { recursive: true });
  for (const path of globSync(`/sys/fs/cgroup/{.,*}${cgroupParent}`)) rmdirSync(path);
});
const namespacePaths = new Map(pins.map(({ type, path }) => [type, path]));

const plain = containerInput('plain');

interface Change {
  readonly asked?: Partial<ContainerConfig>;
  readonly context?: Partial<ContainerSecurityContext>;
}

/** Prepares a container whose request is that of the recording `plain`, on a root file system of busybox. */
async function prepare(stage: Stage, program: string, change: Change): Promise<CreateOptions> {
  const id = newId();
  const files = podFiles(stage);
  const options = stage.bundle(['true']);
  const handler = { ...emptyHandler(), runtimePath: stage.command.path, containerMinMemory: '500KiB' };
  const config = defaultConfig();
  const runtime = {
    ...config.runtime,
    runtimes: new Map([[program, handler]]),
    namespacesDir: stage.folder,
    cgroupManager: 'cgroupfs' as const,
  };
  const prepareContainer = createPrepare({
    config: () => ({ ...config, runtime }),
    host: readHostFacts(),
    storageRoot: join(stage.folder, 'storage'),
    mountImage: async () => undefined,
  });
  await using undo = new AsyncDisposableStack();
  const { spec } = await prepareContainer({ ...request(stage, id, files, change), bundle: options.bundle, undo });
  writeFileSync(join(options.bundle, 'config.json'), encodeSpec(spec));
  return { ...options, terminal: change.asked?.tty ?? false };
}

function podFiles(stage: Stage): Partial<Pod> {
  mkdirSync(join(stage.folder, 'shm'), { recursive: true });
  chmodSync(join(stage.folder, 'shm'), 0o1777);
  for (const name of ['resolv.conf', 'hostname', '.containerenv']) writeFileSync(join(stage.folder, name), `${name}\n`);
  mkdirSync(join(stage.folder, 'rootfs/etc'), { recursive: true });
  writeFileSync(join(stage.folder, 'rootfs/etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  writeFileSync(join(stage.folder, 'rootfs/etc/group'), 'root:x:0:\n');
  return {
    ...plain.pod,
    cgroupParent,
    namespacePaths,
    shmPath: join(stage.folder, 'shm'),
    resolvPath: join(stage.folder, 'resolv.conf'),
    hostnamePath: join(stage.folder, 'hostname'),
    containerEnvPath: join(stage.folder, '.containerenv'),
    mountLabel: '',
    processLabel: '',
  };
}

function request(
  stage: Stage,
  id: string,
  pod: Partial<Pod>,
  { asked, context }: Change,
): Omit<PrepareRequest, 'bundle' | 'undo'> {
  const securityContext = plain.config.securityContext;
  assert.ok(securityContext);
  const image: Partial<Image> = {
    id: plain.image.id,
    repoDigests: plain.image.repoDigests,
    config: plain.image.config,
  };
  return {
    call: stage.call(),
    id,
    name: plain.name,
    createdAtNs: 0n,
    // only these fields are read
    pod: pod as Pod,
    podConfig: undefined as never,
    config: {
      ...plain.config,
      mounts: [],
      annotations: new Map(),
      ...asked,
      securityContext: { ...securityContext, ...context },
    },
    // only these fields are read
    image: image as Image,
    imageName: '',
    runtime: stage.runtime,
    directory: stage.folder,
    logPath: join(stage.folder, 'log'),
    mountRootfs: async () => join(stage.folder, 'rootfs'),
    findTarget: () => undefined,
  };
}

/** Runs the container to its end and returns what it wrote. */
async function run(stage: Stage, options: CreateOptions): Promise<string> {
  await stage.runtime.create(stage.call(), options);
  await stage.runtime.start(stage.call(), options.id);
  const exit = join(stage.monitor.exitsDir, options.id);
  for (let waited = 0; waited < 500; waited++) {
    try {
      readFileSync(exit);
      break;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  const log = readFileSync(options.logPath, 'utf8');
  return log.replaceAll(/^\S+ (stdout|stderr) [FP] /gm, '');
}

const shell = (script: string) => ({ command: ['/bin/sh', '-c', script], args: [] });

for (const program of ['crun', 'runc']) {
  suite(program, () => {
    test('a container sees what its request says', async () => {
      await using stage = await createStage(program);
      const script = [
        'busybox id',
        'echo $PWD $A $HOSTNAME $(busybox hostname)',
        'cat /etc/passwd /etc/group /etc/resolv.conf /etc/hostname',
        'busybox grep -E "^(Cap(Inh|Bnd|Amb)|NoNewPrivs|Seccomp):" /proc/self/status',
        'busybox readlink /etc/mtab',
        'busybox head -c 1 /proc/kcore | busybox wc -c',
        'busybox touch /proc/sys/x',
        'cat /proc/self/oom_score_adj',
      ].join('; ');
      const output = await run(stage, await prepare(stage, program, { asked: shell(script) }));
      const lines = output.split('\n');
      assert.equal(lines[0], 'uid=1000(1000) gid=1000(1000) groups=1000(1000),2000');
      assert.equal(lines[1], '/srv/app 1 plain-host plain-host');
      assert.match(output, /^1000:x:1000:1000:1000 user:\/:\/sbin\/nologin$/m);
      assert.match(output, /^1000:x:1000:$/m);
      assert.match(output, /^resolv\.conf\nhostname$/m);
      assert.match(output, /^CapInh:\s0+$/m);
      assert.match(output, /^CapBnd:\s00000000000015fb$/m);
      assert.match(output, /^CapAmb:\s0+$/m);
      assert.match(output, /^NoNewPrivs:\s1$/m);
      assert.match(output, /^Seccomp:\s2$/m);
      assert.match(output, /^\/proc\/mounts$/m);
      assert.match(output, /^0$/m);
      assert.match(output, /\/proc\/sys\/x: (Read-only file system|No such file or directory|Permission denied)/);
      assert.match(output, /^500$/m);
    });

    test('a privileged container has devices and a writable /sys, and no seccomp', async () => {
      await using stage = await createStage(program);
      const script =
        'busybox grep -E "^Seccomp:" /proc/self/status; busybox mount | busybox grep -E " /sys "; busybox ls /dev';
      const change = { asked: shell(script), context: { privileged: true, runAsUser: 0, noNewPrivs: false } };
      const output = await run(stage, await prepare(stage, program, change));
      assert.match(output, /^Seccomp:\s0$/m);
      assert.match(output, /^sysfs on \/sys type sysfs \(rw/m);
      assert.match(output, /^null$/m);
    });

    test('a bind is read-only, a missing source is made, and a read-only root keeps its files', async () => {
      await using stage = await createStage(program);
      const source = join(stage.folder, 'volume/new');
      const mount = {
        containerPath: '/data',
        hostPath: source,
        readonly: true,
        selinuxRelabel: false,
        propagation: 0,
        uidMappings: [],
        gidMappings: [],
        recursiveReadOnly: false,
        image: undefined,
        imageSubPath: '',
        mountOptions: [],
      } as const;
      const script = 'echo x > /data/file; echo x > /etc/file; echo x > /etc/hostname; echo done';
      const change = { asked: { ...shell(script), mounts: [mount] }, context: { readonlyRootfs: true, runAsUser: 0 } };
      const output = await run(stage, await prepare(stage, program, change));
      assert.equal(output.match(/Read-only file system/g)?.length, 3);
      rmSync(join(stage.folder, 'volume'), { recursive: true });
    });

    test('a container without a security context is root with the default profile', async () => {
      await using stage = await createStage(program);
      const options = await prepare(stage, program, {
        asked: shell('busybox id -u; busybox grep Seccomp: /proc/self/status; busybox unshare -m true'),
        context: { runAsUser: 0, runAsGroup: 0, namespaceOptions: undefined, noNewPrivs: false },
      }).catch((error: unknown) => error);
      // without options the PID namespace is the pod's, and this pod has no infra container
      assert.match(String(options), /it has no infra container/);
      const namespaceOptions = {
        network: NamespaceMode.pod,
        pid: NamespaceMode.container,
        ipc: NamespaceMode.pod,
        targetId: '',
        userns: undefined,
      };
      const again = await prepare(stage, program, {
        asked: shell('busybox id -u; busybox grep Seccomp: /proc/self/status; busybox unshare -m true'),
        context: { runAsUser: 0, runAsGroup: 0, namespaceOptions, noNewPrivs: false },
      });
      const output = await run(stage, again);
      assert.match(output, /^0\nSeccomp:\s2\n.*Function not implemented/m);
    });
  });
}
