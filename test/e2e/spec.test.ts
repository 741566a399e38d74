import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { MountPropagation, SecurityProfile_ProfileType as ProfileType } from '../../src/cri/gen/api_pb.ts';
import {
  cgroupParent,
  execSync,
  removePod,
  runContainer,
  runPod,
  waitFor,
  waitForExit,
  type ContainerInit,
  type Pod,
} from '../client/pods.ts';
import { run } from '../fixtures/process.ts';
import { hierarchies } from '../run/cgroups.ts';
import { failureOf, handlers, useDaemon } from './environment.ts';

const node = useDaemon();
let counter = 0;

for (const handler of handlers) {
  describe(`what is asked of ${handler} holds inside the container`, () => {
    let pod: Pod;
    before(async () => (pod = await runPod(node.client, { handler })));
    after(() => removePod(node.client, pod.id));

    const start = (config: Partial<ContainerInit>): Promise<string> =>
      runContainer(node.client, pod, { name: `c${++counter}`, command: ['sleep', '1000'], config });
    const sh = async (id: string, script: string): Promise<string> =>
      (await execSync(node.client, id, ['sh', '-c', script])).stdout.trim();

    test('limits of CPU, memory, processes and CPUs', async () => {
      const id = await start({
        linux: {
          resources: {
            cpuPeriod: 100000n,
            cpuQuota: 50000n,
            cpuShares: 512n,
            memoryLimitInBytes: 64n << 20n,
            cpusetCpus: '0',
          },
        },
      });
      const own = readFileSync(`/proc/${await pidOf(id)}/cgroup`, 'utf8');
      const value = (controller: string, file: string): string => {
        const path = new RegExp(`^\\d+:[^:]*\\b${controller}\\b[^:]*:(.*)$`, 'm').exec(own)?.[1];
        return readFileSync(`/sys/fs/cgroup/${controller}${path ?? ''}/${file}`, 'utf8').trim();
      };
      if (hierarchies().length === 1) return; // cgroup v2 has its own test
      assert.equal(value('cpu', 'cpu.cfs_quota_us'), '50000');
      assert.equal(value('cpu', 'cpu.shares'), '512');
      assert.equal(value('memory', 'memory.limit_in_bytes'), String(64 << 20));
      assert.equal(value('cpuset', 'cpuset.cpus'), '0');
    });

    test('user, group and supplementary groups', async () => {
      const id = await start({
        linux: {
          securityContext: {
            runAsUser: { value: 1001n },
            runAsGroup: { value: 1002n },
            supplementalGroups: [1234n, 5678n],
          },
        },
      });
      assert.equal(await sh(id, 'id -u; id -g'), '1001\n1002');
      const groups = (await sh(id, 'id -G')).split(' ');
      for (const group of ['1002', '1234', '5678'])
        assert.ok(groups.includes(group), `${group} in ${groups.join(' ')}`);
    });

    test('capabilities added, dropped, and all', async () => {
      const effective = async (capabilities: object): Promise<bigint> => {
        const id = await start({ linux: { securityContext: { capabilities } } });
        return BigInt(`0x${await sh(id, "sed -n 's/CapEff:\\t//p' /proc/self/status")}`);
      };
      const bit = (number: number): bigint => 1n << BigInt(number);
      const normal = await effective({});
      assert.equal(normal & bit(12), 0n, 'NET_ADMIN is not a default');
      assert.ok(normal & bit(0), 'CHOWN is a default');
      assert.ok((await effective({ addCapabilities: ['NET_ADMIN'] })) & bit(12));
      assert.equal((await effective({ dropCapabilities: ['CHOWN'] })) & bit(0), 0n);
      assert.equal(await effective({ dropCapabilities: ['ALL'] }), 0n);
      const own = BigInt(`0x${/CapBnd:\s*(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);
      assert.equal((await effective({ addCapabilities: ['ALL'] })) & ~own, 0n, 'never more than the host gives');
    });

    test('no new privileges', async () => {
      for (const [noNewPrivs, uid] of [
        [true, '1000'],
        [false, '0'],
      ] as const) {
        const name = `c${++counter}`;
        const id = await runContainer(node.client, pod, {
          name,
          image: 'registry.k8s.io/e2e-test-images/nonewprivs:1.3',
          config: { linux: { securityContext: { noNewPrivs, runAsUser: { value: 1000n } } } },
        });
        const { logPath } = await waitForExit(node.client, id);
        assert.match(readFileSync(logPath, 'utf8'), new RegExp(`Effective uid: ${uid}\n`));
      }
    });

    test('seccomp: the default profile, none, and a file', async () => {
      const mode = (id: string): Promise<string> => sh(id, "sed -n 's/^Seccomp:\\t//p' /proc/1/status");
      assert.equal(
        await mode(
          await start({ linux: { securityContext: { seccomp: { profileType: ProfileType.RuntimeDefault } } } }),
        ),
        '2',
      );
      assert.equal(
        await mode(await start({ linux: { securityContext: { seccomp: { profileType: ProfileType.Unconfined } } } })),
        '0',
      );
      const file = '/srv/block-chmod.json';
      writeFileSync(
        file,
        JSON.stringify({
          defaultAction: 'SCMP_ACT_ALLOW',
          syscalls: [{ names: ['chmod', 'fchmodat', 'fchmodat2'], action: 'SCMP_ACT_ERRNO' }],
        }),
      );
      const id = await start({
        linux: { securityContext: { seccomp: { profileType: ProfileType.Localhost, localhostRef: file } } },
      });
      assert.match((await execSync(node.client, id, ['chmod', '700', '/tmp'])).stderr, /Operation not permitted/);
      assert.equal(await sh(id, "sed -n 's/^Seccomp:\\t//p' /proc/self/status"), '2', 'an exec has it too');
    });

    test('a read-only root, masked and read-only paths', async () => {
      const id = await start({
        linux: {
          securityContext: {
            readonlyRootfs: true,
            maskedPaths: ['/proc/kcore', '/proc/acpi'],
            readonlyPaths: ['/proc/sys'],
          },
        },
      });
      assert.match((await execSync(node.client, id, ['touch', '/x'])).stderr, /Read-only file system/);
      assert.equal(await sh(id, 'head -c 10 /proc/kcore | wc -c'), '0');
      assert.match(
        (await execSync(node.client, id, ['sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward'])).stderr,
        /Read-only file system/,
      );
    });

    test('a privileged container may do what the host may', async () => {
      const privileged = await runPod(node.client, {
        handler,
        config: { linux: { cgroupParent: cgroupParent('privileged'), securityContext: { privileged: true } } },
      });
      const id = await runContainer(node.client, privileged, {
        command: ['sleep', '1000'],
        config: { linux: { securityContext: { privileged: true } } },
      });
      assert.equal((await execSync(node.client, id, ['brctl', 'addbr', 'own0'])).code, 0);
      assert.equal(await sh(id, "sed -n 's/^Seccomp:\\t//p' /proc/1/status"), '0');
      assert.equal((await execSync(node.client, id, ['test', '-c', '/dev/kmsg'])).code, 0);
      await removePod(node.client, privileged.id);
    });

    test('mounts: read-only, read-write, and a source that is made', async () => {
      mkdirSync('/srv/volume', { recursive: true });
      writeFileSync('/srv/volume/file', 'content\n');
      const id = await start({
        mounts: [
          { hostPath: '/srv/volume', containerPath: '/ro', readonly: true },
          { hostPath: '/srv/volume', containerPath: '/rw' },
          { hostPath: `/srv/made-${handler}`, containerPath: '/made' },
        ],
      });
      assert.equal(await sh(id, 'cat /ro/file'), 'content');
      assert.match((await execSync(node.client, id, ['touch', '/ro/x'])).stderr, /Read-only file system/);
      await sh(id, 'echo new > /rw/new; touch /made/x');
      assert.equal(readFileSync('/srv/volume/new', 'utf8'), 'new\n');
      assert.equal(readFileSync(`/srv/made-${handler}/x`, 'utf8'), '');
    });

    test('mount propagation: private, from the host, and both ways', async () => {
      const source = `/srv/propagation-${handler}`;
      mkdirSync(`${source}/sub`, { recursive: true });
      run('mount', ['-t', 'tmpfs', 'tmpfs', source]);
      run('mount', ['--make-shared', source]);
      for (const name of ['late', 'inner']) mkdirSync(`${source}/${name}`);
      try {
        const mount = (propagation: MountPropagation): object => ({
          mounts: [{ hostPath: source, containerPath: '/m', propagation }],
          linux: { securityContext: { privileged: true } },
        });
        const privatePod = await runPod(node.client, {
          handler,
          config: { linux: { cgroupParent: cgroupParent('propagation'), securityContext: { privileged: true } } },
        });
        const startIn = (propagation: MountPropagation): Promise<string> =>
          runContainer(node.client, privatePod, {
            name: `c${++counter}`,
            command: ['sleep', '1000'],
            config: mount(propagation),
          });
        const separate = await startIn(MountPropagation.PROPAGATION_PRIVATE);
        const slave = await startIn(MountPropagation.PROPAGATION_HOST_TO_CONTAINER);
        const shared = await startIn(MountPropagation.PROPAGATION_BIDIRECTIONAL);
        run('mount', ['-t', 'tmpfs', 'tmpfs', `${source}/late`]);
        writeFileSync(`${source}/late/seen`, '');
        assert.equal(await sh(separate, 'ls /m/late'), '');
        assert.equal(await sh(slave, 'ls /m/late'), 'seen');
        await sh(shared, 'mount -t tmpfs tmpfs /m/inner && touch /m/inner/from-container');
        assert.equal(run('ls', [`${source}/inner`]), 'from-container\n');
        await removePod(node.client, privatePod.id);
      } finally {
        run('umount', ['--recursive', source]);
      }
    });

    test('environment, working directory, user and command of the image and of the request', async () => {
      const plain = await runContainer(node.client, pod, {
        name: `c${++counter}`,
        image: 'docker.io/library/formats:config',
      });
      const log = await waitFor('the log of the image command', 5000, async () => {
        const { status } = await node.client.runtime.containerStatus({ containerId: plain });
        const text = readFileSync(status?.logPath ?? '', 'utf8');
        return / 33$/m.test(text) ? text : undefined;
      });
      assert.match(log, /COLOUR=blue/);
      assert.match(log, / \/srv\/work$/m);
      const id = await runContainer(node.client, pod, {
        name: `c${++counter}`,
        image: 'docker.io/library/formats:config',
        command: ['sleep', '1000'],
        config: {
          workingDir: '/tmp',
          envs: [
            { key: 'COLOUR', value: Buffer.from('green') },
            { key: 'TWO', value: Buffer.from('two words') },
          ],
        },
      });
      const environment = readFileSync(`/proc/${await pidOf(id)}/environ`, 'utf8').split('\0');
      for (const entry of ['COLOUR=green', 'TWO=two words']) assert.ok(environment.includes(entry), entry);
      assert.equal(
        run('readlink', [`/proc/${await pidOf(id)}/cwd`])
          .trim()
          .endsWith('/tmp'),
        true,
      );
    });

    test('a group without a user is refused', async () => {
      const failure = await failureOf(start({ linux: { securityContext: { runAsGroup: { value: 1000n } } } }));
      assert.match(failure.details, /user group is specified without user/);
    });
  });
}

async function pidOf(containerId: string): Promise<number> {
  const { info } = await node.client.runtime.containerStatus({ containerId, verbose: true });
  const parsed = JSON.parse(info['info'] ?? '{}') as { pid?: number };
  return parsed.pid ?? assert.fail('the verbose status has no pid');
}
