import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { get as httpGet } from 'node:http';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { run } from '../fixtures/process.ts';
import { waitFor } from '../client/pods.ts';
import { containerOf, idOf, isReady, waitForPod } from './api.ts';
import { cgroupFile, cgroupVersion, podCgroup } from './cgroup-files.ts';
import { podPidsLimit } from './kubelet.ts';
import { hostFolder, hostNetworkPort, hostPort } from './pods.ts';
import { exec } from './stream-client.ts';
import type { World } from './world.ts';

/** What the kubelet makes of each pod. All wait at the same time. */
export function workloadTests(world: () => World): void {
  const inside = async (pod: string, container: string, script: string): Promise<string> => {
    const target = { program: world().client, transport: 'SPDY', pod, container } as const;
    await using stream = exec(target, ['sh', '-ec', script]);
    assert.equal(await stream.exited, 0, stream.stderr());
    return stream.stdout();
  };

  describe('pods', { concurrency: true }, () => {
    test('init containers, a sidecar and the container start in their order', async () => {
      const pod = await waitForPod('web', isReady);
      assert.equal(await fetchLocal(hostPort, '/order'), 'first\nhelper\nlast\nserver\n');
      for (const name of ['first', 'last']) {
        const { terminated } = containerOf(pod, name).state;
        assert.deepEqual([terminated?.reason, terminated?.exitCode], ['Completed', 0]);
      }
      const helper = containerOf(pod, 'helper');
      assert.deepEqual([helper.started, helper.restartCount, helper.state.running !== undefined], [true, 0, true]);
    });

    test('HTTP, TCP and exec probes make a pod ready, and a failed liveness probe restarts its container once', async () => {
      await waitForPod('web', isReady);
      const pod = await waitForPod(
        'probes',
        (each) =>
          containerOf(each, 'ready').ready &&
          containerOf(each, 'lively').restartCount > 0 &&
          containerOf(each, 'lively').ready,
      );
      assert.equal(containerOf(pod, 'lively').restartCount, 1);
      assert.equal(containerOf(pod, 'ready').restartCount, 0);
    });

    test('an exec probe that takes too long fails, and its command is ended', async () => {
      await waitForPod('probes', (each) => containerOf(each, 'slow').state.running !== undefined);
      await waitFor('a probe of the slow container', 60_000, () => (slowProbes() > 0 ? true : undefined));
      // One may be at work and one at its end.
      assert.ok(slowProbes() <= 2, `${slowProbes()} commands of probes`);
      const pod = await waitForPod('probes', () => true);
      assert.equal(containerOf(pod, 'slow').ready, false);
    });

    test('a host port leads to the pod, on loopback and on the address of the node', async () => {
      await waitForPod('web', isReady);
      const order = await fetchLocal(hostPort, '/order');
      assert.match(order, /^first/);
      assert.equal(await fetchLocal(hostPort, '/order', '10.85.0.1'), order);
    });

    test('a container that fails again and again is restarted later each time, and tells why', async () => {
      const pod = await waitForPod(
        'crash',
        (each) => containerOf(each, 'main').restartCount >= 1 && containerOf(each, 'main').state.waiting !== undefined,
      );
      const { state, lastState } = containerOf(pod, 'main');
      assert.equal(state.waiting?.reason, 'CrashLoopBackOff');
      const { reason, exitCode, message } = lastState.terminated ?? {};
      assert.deepEqual([reason, exitCode, message], ['Error', 3, 'why\n']);
    });

    test('a container that eats too much memory ends as OOMKilled', async () => {
      const { status } = await waitForPod('oom', ({ status: { phase } }) => phase === 'Failed');
      const terminated = status.containerStatuses?.[0]?.state.terminated;
      assert.deepEqual([terminated?.reason, terminated?.exitCode], ['OOMKilled', 137]);
    });

    test('a job that fails once is run again and succeeds', async () => {
      const pod = await waitForPod('job', ({ status }) => status.phase === 'Succeeded');
      assert.equal(containerOf(pod, 'main').restartCount, 1);
    });

    test('a pod with the network of the host has its ports and its name', async () => {
      await waitForPod('hostnet', isReady);
      assert.equal(await fetchLocal(hostNetworkPort, '/name'), `${hostname()}\n`);
    });

    test('folders and files of the host and of the kubelet are mounted', async () => {
      const pod = await waitForPod('volumes', isReady);
      const text = await inside(
        'volumes',
        'main',
        'cat /etc/app/other /etc/single /about/name; hostname; grep -c alias.test /etc/hosts; cat /etc/resolv.conf;' +
          'echo "$POD_IP"; echo made >/made; echo x >/disk/x; stat -f -c %T /memory; touch /etc/app/new || echo read-only',
      );
      assert.match(text, /^other\nvalue\nvolumes-node1named\n1\n/);
      assert.match(text, /nameserver 192\.0\.2\.53/);
      assert.ok(text.includes(`\n${pod.status.podIP ?? 'none'}\n`), text);
      assert.match(text, /tmpfs\nread-only\n$/);
      assert.equal(readFileSync(join(hostFolder, 'made/file'), 'utf8'), 'made\n');
      const volumes = `/var/lib/kubelet/pods/${pod.metadata.uid}/volumes/kubernetes.io~empty-dir`;
      assert.equal(readFileSync(`${volumes}/disk/x`, 'utf8'), 'x\n');
    });

    test('a mount that the host makes later is seen inside', async () => {
      await waitForPod('volumes', isReady);
      const folder = join(hostFolder, 'late');
      run('mount', ['-t', 'tmpfs', 'tmpfs', folder]);
      try {
        run('touch', [join(folder, 'here')]);
        assert.equal(await inside('volumes', 'main', 'ls /late'), 'here\n');
      } finally {
        run('umount', [folder]);
      }
      assert.equal(await inside('volumes', 'main', 'ls /late'), '');
    });

    test('limits are those of the cgroups', async () => {
      const pod = await waitForPod('limits', isReady);
      assert.equal(pod.status.qosClass, 'Guaranteed');
      const container = `${podCgroup(pod)}/crio-${idOf(pod, 'busy')}`;
      assert.deepEqual(readLimits(container), { memory: 48 << 20, quota: 0.25 });
      assert.equal(cgroupFile('pids', podCgroup(pod), 'pids.max').trim(), String(podPidsLimit));
      // The runtime cannot lower it without that right, so the daemon asks for its own.
      const lowest = isAllowed(sysResource) ? '-997' : readFileSync('/proc/self/oom_score_adj', 'utf8').trim();
      assert.equal((await inside('limits', 'memory', 'cat /proc/1/oom_score_adj')).trim(), lowest);
      await waitForPod('web', isReady);
      assert.equal((await inside('web', 'server', 'cat /proc/1/oom_score_adj')).trim(), '1000');
    });

    test('users, groups, capabilities, seccomp and a read-only root are as asked for, processes are shared', async () => {
      await waitForPod('shared', isReady);
      const text = await inside(
        'shared',
        'one',
        'id -u; id -g; stat -c %g /data; grep -E "CapEff|NoNewPrivs|Seccomp:" /proc/self/status; touch /x || echo read-only',
      );
      assert.match(text, /^1000\n1000\n2000\nCapEff:\s+0+\nNoNewPrivs:\s+1\nSeccomp:\s+2\nread-only\n$/);
      assert.match(await inside('shared', 'two', 'ps'), /\/pause[^]*sleep 54321/);
    });

    test('an image that is not there is a back-off with the reason', async () => {
      const pod = await waitForPod(
        'broken',
        (each) => containerOf(each, 'main').state.waiting?.reason === 'ImagePullBackOff',
      );
      assert.match(containerOf(pod, 'main').state.waiting?.message ?? '', /there-is-none:1/);
    });
  });
}

/** With v1 a quota of each 100 ms, with v2 both numbers in one file. */
function readLimits(cgroup: string): { memory: number; quota: number } {
  const number = (controller: string, file: string): number => Number(cgroupFile(controller, cgroup, file));
  if (cgroupVersion === 2) {
    const [quota, period] = cgroupFile('cpu', cgroup, 'cpu.max').split(' ').map(Number);
    return { memory: number('memory', 'memory.max'), quota: (quota ?? 0) / (period ?? 1) };
  }
  return {
    memory: number('memory', 'memory.limit_in_bytes'),
    quota: number('cpu', 'cpu.cfs_quota_us') / number('cpu', 'cpu.cfs_period_us'),
  };
}

/** CAP_SYS_RESOURCE, which a test machine that is itself a container may lack. */
const sysResource = 24n;

function isAllowed(capability: bigint): boolean {
  const effective = /^CapEff:\t(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return ((BigInt(`0x${effective}`) >> capability) & 1n) === 1n;
}

function slowProbes(): number {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8') === 'sleep\x004242\x00';
      } catch {
        return false; // ended meanwhile
      }
    }).length;
}

function fetchLocal(port: number, path: string, host = '127.0.0.1'): Promise<string> {
  return new Promise((resolve, reject) => {
    httpGet({ host, port, path, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => (text += part));
      response.on('end', () => resolve(text));
      response.on('error', reject);
    }).once('error', reject);
  });
}
