import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CrioError } from '../base/errors.ts';
import type { ContainerId, PodId } from '../base/ids.ts';
import { defaultConfig } from '../config/config.ts';
import type { Container } from '../container/container.ts';
import type { Pod } from '../pod/pod.ts';
import { handleStatusRequest } from './handle-status-request.ts';
import type { StatusDeps } from './handle-status-request.ts';

// Brands of ids that the daemon takes from requests and from disk.
const podId = 'd2050283' as PodId;
const containerId = '2c60e862' as ContainerId;

const container = {
  id: containerId,
  name: 'k8s_main_plain_default_1_0',
  podId,
  imageName: 'registry.example/busybox:1',
  imageRef: 'registry.example/busybox@sha256:9497',
  createdAtNs: 1795246033679148565n,
  labels: new Map([['io.kubernetes.pod.name', 'plain']]),
  annotations: new Map<string, string>(),
  spec: { ociVersion: '1.0.0', annotations: { note: 'a "quoted" <value>' } },
  logPath: '/var/log/0.log',
  mountPoint: '/merged',
  state: { status: 'running', init: { pid: 28259, startTime: '1' } },
} as unknown as Container; // the members that the handlers read

const pod = {
  id: podId,
  infraName: 'k8s_POD_plain_default_1_0',
  createdAtNs: 5n,
  labels: new Map<string, string>(),
  annotations: new Map<string, string>(),
  spec: { annotations: { 'io.kubernetes.cri-o.MountPoint': '/infra', 'io.kubernetes.cri-o.ImageName': 'pause:1' } },
  ips: ['10.88.0.10'],
  hostNetwork: false,
  infra: undefined,
} as unknown as Pod; // the members that the handlers read

const deps: StatusDeps = {
  config: () => ({ ...defaultConfig(), runtime: { ...defaultConfig().runtime, cgroupManager: 'cgroupfs' } }),
  storage: { driverName: 'overlay', graphRoot: '/var/lib/containers/storage', imageStore: '' },
  findContainer: (id) => (id === containerId ? container : undefined),
  knownContainer: (id) => (id === containerId ? container : undefined),
  knownPod: (id) => (id === podId ? pod : undefined),
  containersOf: () => [container],
  pause: () => Promise.resolve(),
  pulls: { list: () => [], pull: async () => 'id' },
  explainPolicy: async (name, namespace, check) => ({
    text: `${name} ${namespace} ${check !== undefined}\n`,
    isRefused: true,
  }),
  unpause: () => Promise.reject(new CrioError('failed-precondition', 'container is running, not paused')),
};

async function get(url: string, method = 'GET') {
  const { body, ...rest } = await handleStatusRequest({ method, url, signal: new AbortController().signal }, deps);
  assert.ok(typeof body === 'string');
  return { ...rest, body };
}

test('GET /info answers as CRI-O does', async () => {
  const { status, headers, body } = await get('/info');
  assert.equal(status, 200);
  assert.equal(headers['Content-Type'], 'application/json');
  assert.equal(
    body,
    '{"storage_driver":"overlay","storage_image":"","storage_root":"/var/lib/containers/storage","cgroup_driver":"cgroupfs",' +
      '"default_id_mappings":{"uids":[{"container_id":0,"host_id":0,"size":4294967295}],"gids":[{"container_id":0,"host_id":0,"size":4294967295}]}}',
  );
});

test('GET /config answers with the effective configuration', async () => {
  const { headers, body } = await get('/config?x');
  assert.equal(headers['Content-Type'], 'application/toml');
  assert.match(body, /^\[crio\]\n {2}root = /);
});

test('GET /containers/<id> answers as CRI-O does', async () => {
  const { headers, body } = await get(`/containers/${containerId}`);
  assert.equal(headers['Content-Type'], 'application/json');
  assert.equal(
    body,
    '{"name":"k8s_main_plain_default_1_0","pid":28259,"image":"registry.example/busybox:1",' +
      '"image_ref":"registry.example/busybox@sha256:9497","created_time":1795246033679148565,' +
      '"labels":{"io.kubernetes.pod.name":"plain"},"annotations":null,' +
      '"crio_annotations":{"note":"a \\"quoted\\" \\u003cvalue\\u003e"},"log_path":"/var/log/0.log","root":"/merged",' +
      '"sandbox":"d2050283","ip_addresses":["10.88.0.10"],"host_network":false}',
  );
});

test('GET /containers/<pod id> is the infra container, with the pid of a running one when it was dropped', async () => {
  const info: unknown = JSON.parse((await get(`/containers/${podId}`)).body);
  assert.ok(typeof info === 'object' && info !== null && 'pid' in info && 'root' in info && 'image' in info);
  assert.deepEqual([info.pid, info.root, info.image], [28259, '/infra', 'pause:1']);
});

test('unknown ids and orphans are 404 with the texts of CRI-O', async () => {
  const missing = await get('/containers/2c60');
  assert.equal(missing.status, 404);
  assert.equal(missing.body, "can't find the container with id 2c60\n");
  assert.equal(missing.headers['X-Content-Type-Options'], 'nosniff');
  const orphan = await handleStatusRequest(
    { method: 'GET', url: `/containers/${containerId}`, signal: new AbortController().signal },
    { ...deps, knownPod: () => undefined },
  );
  assert.equal(orphan.body, `can't find the sandbox for container id ${containerId}\n`);
});

test('pause and unpause answer 200, 404 or 409', async () => {
  assert.deepEqual(await get(`/pause/${containerId}`), {
    status: 200,
    headers: { 'Content-Type': 'text/html' },
    body: '200 OK',
  });
  assert.equal((await get(`/pause/${podId}`)).status, 404);
  const conflict = await get(`/unpause/${containerId}`);
  assert.equal(conflict.status, 409);
  assert.equal(conflict.body, 'container is running, not paused\n');
});

test('other methods are 405 with an empty body, other paths 404', async () => {
  assert.deepEqual(await get('/info', 'POST'), { status: 405, headers: { Allow: 'GET' }, body: '' });
  for (const url of ['/', '/info/', '/containers/', '/containers/a/b', '/debug/x', '/containers/%zz']) {
    assert.equal((await get(url)).status, 404, url);
  }
});
