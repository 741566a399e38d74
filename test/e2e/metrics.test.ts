import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { request, type RequestOptions } from 'node:http';
import { after, before, test } from 'node:test';
import {
  busybox,
  createContainer,
  execSync,
  removePod,
  runContainer,
  runPod,
  waitFor,
  waitForExit,
} from '../client/pods.ts';
import { failureOf, useDaemon } from './environment.ts';
import { startGatedRegistry, type GatedRegistry } from './gated-registry.ts';
import { parsePrometheus, type Family } from './prometheus-text.ts';

let registry: GatedRegistry;
before(async () => {
  registry = await startGatedRegistry();
});
after(async () => registry[Symbol.asyncDispose]());

const port = 9537;
const socketPath = '/run/crio-metrics/metrics.sock';
const node = useDaemon({
  config: `[crio.metrics]\nenable_metrics = true\nmetrics_port = ${port}\nmetrics_socket = "${socketPath}"\n`,
});
const prefix = 'container_runtime_crio_';
const layers = 'docker.io/library/formats:layers';

test('a daemon that has pulled, run, executed and failed says so in its metrics', async () => {
  const { client } = node;
  await client.image.pullImage({ image: { image: layers } });
  await client.image.pullImage({ image: { image: layers } });
  await failureOf(client.image.pullImage({ image: { image: 'registry.k8s.io/nothere:1' } }));
  const pod = await runPod(client);
  const id = await runContainer(client, pod, { command: ['sleep', '1000'] });
  await execSync(client, id, ['true']);
  await failureOf(client.runtime.containerStatus({ containerId: 'nothere' }));
  await removePod(client, pod.id);
  const scrape = await get({ port });
  assert.equal(scrape.status, 200);
  assert.match(scrape.type, /^text\/plain; version=0\.0\.4/);
  const families = parsePrometheus(scrape.body);
  const value = (name: string, labels: Record<string, string> = {}) => valueOf(families, `${prefix}${name}`, labels);
  for (const operation of ['PullImage', 'RunPodSandbox', 'CreateContainer', 'StartContainer', 'ExecSync'])
    assert.ok((value('operations_total', { operation }) ?? 0) > 0, operation);
  assert.equal(value('operations_errors_total', { operation: 'PullImage' }), 1);
  assert.equal(value('operations_errors_total', { operation: 'ContainerStatus' }), 1);
  assert.ok((value('operations_latency_seconds', { operation: 'RunPodSandbox' }) ?? 0) > 0);
  const cni = value('operations_latency_seconds', { operation: 'network_setup_pod' }) ?? 0;
  assert.ok(cni > 0 && cni <= (value('operations_latency_seconds', { operation: 'network_setup_overall' }) ?? 0));
  assert.equal(families.get(`${prefix}operations_latency_seconds_total`)?.type, 'summary');
  // busybox before the tests, this image twice, and the pod's pause image.
  assert.equal(value('image_pulls_success_total'), 4);
  assert.equal(value('image_pulls_failure_total', { error: 'MANIFEST_UNKNOWN' }), 1);
  const sizes = families.get(`${prefix}image_pulls_layer_size`);
  const count = sizes?.samples.find(({ name }) => name.endsWith('_count'))?.value ?? 0;
  const sum = sizes?.samples.find(({ name }) => name.endsWith('_sum'))?.value ?? 0;
  assert.ok(count >= 3 && sum > 1000, `${count} layers, ${sum} bytes`);
  const bytes = families.get(`${prefix}image_pulls_bytes_total`)?.samples ?? [];
  assert.equal(
    bytes.reduce((total, sample) => total + sample.value, 0),
    sum,
    'every byte of the blobs was counted once',
  );
  assert.ok(bytes.every(({ labels }) => labels['mediatype']?.startsWith('application/vnd.')));
  const reused = families.get(`${prefix}image_layer_reuse_total`)?.samples ?? [];
  assert.ok(reused.length > 0 && reused.every(({ labels }) => /@sha256:/.test(labels['name'] ?? '')));
  assert.equal(value('default_runtime', { runtime: 'crun' }), 1);
  assert.ok((value('processes_defunct') ?? -1) >= 0);
  assert.ok((valueOf(families, 'process_resident_memory_bytes') ?? 0) > 1e7);
  assert.equal(valueOf(families, 'crio_ts_image_pulls_running'), 0);
});

test('a container that ran out of memory is counted until it is removed', async () => {
  const { client } = node;
  const pod = await runPod(client);
  const limit = { linux: { resources: { memoryLimitInBytes: 20n << 20n, memorySwapLimitInBytes: 20n << 20n } } };
  const command = ['sh', '-c', 'x=0123456789abcdef; while :; do x=$x$x; done'];
  const id = await runContainer(client, pod, { image: busybox, command, config: limit });
  const { reason } = await waitForExit(client, id);
  assert.equal(reason, 'OOMKilled');
  const oom = async () => parsePrometheus((await get({ port })).body);
  assert.equal(valueOf(await oom(), `${prefix}containers_oom_total`), 1);
  const samples = (await oom()).get(`${prefix}containers_oom_count_total`)?.samples ?? [];
  assert.equal(samples.length, 1);
  assert.match(samples[0]?.labels['name'] ?? '', /^k8s_main_/);
  await removePod(client, pod.id);
  assert.equal((await oom()).get(`${prefix}containers_oom_count_total`), undefined);
  assert.equal(valueOf(await oom(), `${prefix}containers_oom_total`), 1);
});

test('a monitor that was killed is counted by the name of its container', async () => {
  const { client } = node;
  const pod = await runPod(client);
  const id = await createContainer(client, pod, { command: ['sleep', '1000'] });
  await client.runtime.startContainer({ containerId: id });
  const monitor = Number(
    readFileSync(`/run/containers/storage/overlay-containers/${id}/userdata/conmon-pidfile`, 'utf8'),
  );
  process.kill(monitor, 'SIGKILL');
  const found = await waitFor('the daemon to look after its monitors', 25_000, async () =>
    parsePrometheus((await get({ port })).body).get(`${prefix}containers_stopped_monitor_count`),
  );
  assert.deepEqual(
    found.samples.map(({ labels, value }) => [labels['name']?.replace(/_pod-.*/, ''), value]),
    [['k8s_main', 1]],
  );
  await removePod(client, pod.id);
});

test('the unix socket answers as well', async () => {
  assert.equal(statSync(socketPath).mode & 0o777, 0o660);
  parsePrometheus((await get({ socketPath })).body);
});

test('the progress of a running pull can be scraped, and nothing of it is left afterwards', async () => {
  const { client } = node;
  const { name: image, layerDigests, manifest } = registry.put('scraped', [300_000, 200_000]);
  const size = sizesOf(manifest.layers).reduce((sum, bytes) => sum + bytes, 0);
  const pulling = client.image.pullImage({ image: { image } });
  const families = await waitFor('half of each layer', 10_000, async () => {
    const found = parsePrometheus((await get({ port })).body);
    return (valueOf(found, 'crio_ts_image_pull_downloaded_bytes', { image }) ?? 0) >= size / 2 - 2 ? found : undefined;
  });
  assert.equal(valueOf(families, 'crio_ts_image_pulls_running'), 1);
  assert.equal(valueOf(families, 'crio_ts_image_pull_bytes', { image }), size);
  assert.equal(valueOf(families, 'crio_ts_image_pull_layers', { image, phase: 'downloading' }), 2);
  for (const [index, layer] of layerDigests.entries()) {
    const labels = { image, layer, phase: 'downloading', endpoint: `http://${registry.host}` };
    const bytes = sizesOf(manifest.layers)[index] ?? 0;
    assert.equal(valueOf(families, 'crio_ts_image_pull_layer_bytes', labels), bytes);
    assert.equal(valueOf(families, 'crio_ts_image_pull_layer_downloaded_bytes', labels), bytes >> 1);
    assert.ok(valueOf(families, 'crio_ts_image_pull_layer_unpacked_bytes', labels) !== undefined);
  }
  registry.open();
  await pulling;
  const after = parsePrometheus((await get({ port })).body);
  assert.deepEqual(
    [...after.keys()].filter((name) => name.startsWith('crio_ts_image_pull_')),
    [],
  );
});

function sizesOf(layers: readonly object[]): number[] {
  return layers.map((layer) => ('size' in layer && typeof layer.size === 'number' ? layer.size : 0));
}

function valueOf(
  families: ReadonlyMap<string, Family>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  return families
    .get(name)
    ?.samples.find(
      (sample) => sample.name === name && Object.entries(labels).every(([key, text]) => sample.labels[key] === text),
    )?.value;
}

function get(where: RequestOptions): Promise<{ status: number; type: string; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request({ host: '127.0.0.1', path: '/metrics', agent: false, ...where }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          type: response.headers['content-type'] ?? '',
          body: Buffer.concat(parts).toString(),
        }),
      );
    });
    call.on('error', reject);
    call.end();
  });
}
