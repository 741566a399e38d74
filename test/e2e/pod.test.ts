import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { describe, test } from 'node:test';
import { NamespaceMode, PodSandboxState } from '../../src/cri/gen/api_pb.ts';
import {
  cgroupParent,
  execSync,
  podConfig,
  removePod,
  runContainer,
  runPod,
  separateNamespaces,
} from '../client/pods.ts';
import { run } from '../fixtures/process.ts';
import { handlers, useDaemon } from './environment.ts';

const node = useDaemon();

for (const handler of handlers) {
  describe(`a pod with ${handler}`, () => {
    test('runs, is listed, stops, and is removed', async () => {
      const { client } = node;
      const pod = await runPod(client, { handler, name: `life-${handler}` });
      assert.match(pod.id, /^[0-9a-f]{64}$/);
      const { status } = await client.runtime.podSandboxStatus({ podSandboxId: pod.id });
      assert.equal(status?.state, PodSandboxState.SANDBOX_READY);
      assert.match(status.network?.ip ?? '', /^10\.85\./);
      assert.equal(status.metadata?.name, `life-${handler}`);

      await client.runtime.stopPodSandbox({ podSandboxId: pod.id });
      const stopped = await client.runtime.podSandboxStatus({ podSandboxId: pod.id });
      assert.equal(stopped.status?.state, PodSandboxState.SANDBOX_NOTREADY);
      await client.runtime.stopPodSandbox({ podSandboxId: pod.id });
      await client.runtime.removePodSandbox({ podSandboxId: pod.id });
      await client.runtime.removePodSandbox({ podSandboxId: pod.id });
      const { items } = await client.runtime.listPodSandbox({ filter: { id: pod.id } });
      assert.deepEqual(items, []);
    });

    test('with a shared PID namespace keeps an infra container as PID 1', async () => {
      const { client } = node;
      const linux = {
        cgroupParent: cgroupParent('shared'),
        securityContext: { namespaceOptions: { ...separateNamespaces, pid: NamespaceMode.POD } },
      };
      const pod = await runPod(client, { handler, config: { linux } });
      const id = await runContainer(client, pod, {
        command: ['sleep', '1000'],
        config: { linux: { securityContext: { namespaceOptions: { pid: NamespaceMode.POD } } } },
      });
      const first = await execSync(client, id, ['cat', '/proc/1/cmdline']);
      assert.match(first.stdout, /pause/);
      await removePod(client, pod.id);
    });
  });
}

test('a pod gets its resolv.conf, hostname, sysctls and /dev/shm', async () => {
  const { client } = node;
  const base = podConfig({ name: 'files' });
  const pod = await runPod(client, {
    config: {
      ...base,
      hostname: 'files-host',
      dnsConfig: { servers: ['10.10.10.10', '10.10.10.11'], searches: ['one.test', 'two.test'], options: ['ndots:8'] },
      linux: {
        cgroupParent: cgroupParent('files'),
        sysctls: { 'net.ipv4.ip_local_port_range': '20000 30000', 'kernel.shm_rmid_forced': '1' },
        securityContext: { namespaceOptions: separateNamespaces },
      },
    },
  });
  const id = await runContainer(client, pod, { command: ['sleep', '1000'] });
  const read = async (...cmd: string[]): Promise<string> => (await execSync(client, id, cmd)).stdout;
  assert.equal(await read('hostname'), 'files-host\n');
  assert.equal(
    await read('cat', '/etc/resolv.conf'),
    'search one.test two.test\nnameserver 10.10.10.10\nnameserver 10.10.10.11\noptions ndots:8\n',
  );
  assert.match(await read('cat', '/proc/sys/net/ipv4/ip_local_port_range'), /20000\s+30000/);
  assert.equal(await read('cat', '/proc/sys/kernel/shm_rmid_forced'), '1\n');
  assert.match(await read('df', '-k', '/dev/shm'), /65536/);
  await removePod(client, pod.id);
});

test('two containers of a pod share its network and IPC, not its processes', async () => {
  const { client } = node;
  const pod = await runPod(client);
  const one = await runContainer(client, pod, {
    name: 'one',
    command: ['sh', '-c', 'touch /dev/shm/seen; echo hi > /tmp/index.html; httpd -p 7000 -h /tmp; exec sleep 1111'],
  });
  const two = await runContainer(client, pod, { name: 'two', command: ['sleep', '2222'] });
  assert.equal(
    (await execSync(client, two, ['sh', '-c', 'sleep 0.3; wget -qO- http://127.0.0.1:7000/'])).stdout,
    'hi\n',
  );
  assert.equal((await execSync(client, two, ['ls', '/dev/shm'])).stdout, 'seen\n');
  assert.doesNotMatch((await execSync(client, two, ['ps'])).stdout, /1111/);
  assert.match((await execSync(client, one, ['ps'])).stdout, /1111/);
  await removePod(client, pod.id);
});

test('a pod on the host network has the addresses of the host and no CNI result', async () => {
  const { client } = node;
  const linux = {
    cgroupParent: cgroupParent('host'),
    securityContext: { namespaceOptions: { ...separateNamespaces, network: NamespaceMode.NODE } },
  };
  const pod = await runPod(client, { config: { linux } });
  const id = await runContainer(client, pod, {
    command: ['sleep', '1000'],
    config: {
      linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER } } },
    },
  });
  const inside = (await execSync(client, id, ['readlink', '/proc/self/ns/net'])).stdout.trim();
  assert.equal(inside, run('readlink', ['/proc/self/ns/net']).trim());
  await removePod(client, pod.id);
});

test('containers reach each other across pods, and a host port reaches a container', async () => {
  const { client } = node;
  const web = await runPod(client, {
    config: { ...podConfig({ name: 'web' }), portMappings: [{ containerPort: 8000, hostPort: 18080 }] },
  });
  await runContainer(client, web, {
    command: ['sh', '-c', 'mkdir /w; echo page > /w/index.html; exec httpd -f -p 8000 -h /w'],
  });
  const { status } = await client.runtime.podSandboxStatus({ podSandboxId: web.id });
  const other = await runPod(client);
  const id = await runContainer(client, other, { command: ['sleep', '1000'] });
  const page = await execSync(client, id, [
    'sh',
    '-c',
    `for i in 1 2 3 4 5; do wget -qO- http://${status?.network?.ip}:8000/ && exit; sleep 0.2; done`,
  ]);
  assert.equal(page.stdout, 'page\n');
  // As with CRI-O, ports are open on every address of the node but loopback (that needs route_localnet).
  assert.equal(await (await fetch('http://10.85.0.1:18080/')).text(), 'page\n');
  await removePod(client, web.id);
  await assert.rejects(fetch('http://10.85.0.1:18080/'));
  await removePod(client, other.id);
});

test('state of a pod lies where CRI-O puts it, with its modes', async () => {
  const { client } = node;
  const pod = await runPod(client);
  const data = `/var/lib/containers/storage/overlay-containers/${pod.id}/userdata`;
  const config = JSON.parse(readFileSync(`${data}/config.json`, 'utf8')) as { annotations: Record<string, string> };
  assert.equal(config.annotations['io.kubernetes.cri-o.SandboxID'], pod.id);
  assert.equal(statSync(data).mode & 0o7777, 0o700);
  assert.ok(existsSync(`/run/containers/storage/overlay-containers/${pod.id}/userdata/state.json`));
  await removePod(client, pod.id);
  assert.ok(!existsSync(data));
});

test('lists filter by id prefix, state and labels', async () => {
  const { client } = node;
  const one = await runPod(client, {
    config: { ...podConfig({ name: 'one' }), labels: { colour: 'red', size: 'big' } },
  });
  const two = await runPod(client, { config: { ...podConfig({ name: 'two' }), labels: { colour: 'red' } } });
  await client.runtime.stopPodSandbox({ podSandboxId: two.id });
  const ids = async (filter: object): Promise<string[]> =>
    (await client.runtime.listPodSandbox({ filter })).items.map((pod) => pod.id);
  assert.deepEqual(await ids({ id: one.id.slice(0, 10) }), [one.id]);
  assert.deepEqual(await ids({ labelSelector: { colour: 'red' } }), [two.id, one.id]);
  assert.deepEqual(await ids({ labelSelector: { colour: 'red', size: 'big' } }), [one.id]);
  assert.deepEqual(
    await ids({ state: { state: PodSandboxState.SANDBOX_NOTREADY }, labelSelector: { colour: 'red' } }),
    [two.id],
  );
  assert.deepEqual(await ids({ id: 'ffffffff' }), []);
  for (const pod of [one, two]) await removePod(client, pod.id);
});
