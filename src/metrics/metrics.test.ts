import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { silentLog } from '../base/log.ts';
import { defaultConfig, type Config } from '../config/config.ts';
import type { Digest } from '../base/ids.ts';
import { PullTracker } from '../image/pull-progress.ts';
import type { PullProgress } from '../image/pull-progress.ts';
import { ensureCertificate, selfSigned } from './ensure-certificate.ts';
import { failureLabelOf, mediaTypeLabel, RecentValues, sizeLabel } from './labels.ts';
import { createMetrics } from './metrics.ts';
import { goNumber } from './text-format.ts';

const layer = {
  // A digest as registries write it.
  digest: `sha256:${'a'.repeat(64)}` as Digest,
  mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
  size: 2_000_000,
};

/** Metrics on a free port of loopback. */
async function serve(change: Partial<Config['metrics']> = {}, pulls: () => readonly PullProgress[] = () => []) {
  const config = defaultConfig();
  const port = await freePort();
  const metrics = await createMetrics({
    config: () => ({ ...config, metrics: { ...config.metrics, enableMetrics: true, metricsPort: port, ...change } }),
    pulls,
    log: silentLog,
  });
  await metrics.listen();
  const scrape = async () => (await get({ port, path: '/metrics' })).body;
  return Object.assign(metrics, { port, scrape });
}

test('metrics that are off load and serve nothing', async () => {
  await using metrics = await createMetrics({ config: () => defaultConfig(), pulls: () => [], log: silentLog });
  metrics.operationDone('Version', 1, false);
  await metrics.listen();
  await assert.rejects(get({ port: 9090, path: '/metrics' }), /ECONNREFUSED/);
});

test('operations are counted, with their errors and latency', async () => {
  await using metrics = await serve();
  metrics.operationDone('PullImage', 250, false);
  metrics.operationDone('PullImage', 500, true);
  metrics.networkSetUp('network_setup_pod', 40);
  const text = await metrics.scrape();
  const name = (suffix: string) => `container_runtime_crio_operations_${suffix}`;
  assert.ok(text.includes(`${name('total')}{operation="PullImage"} 2\n`), text);
  assert.ok(text.includes(`${name('errors_total')}{operation="PullImage"} 1\n`), text);
  assert.ok(text.includes(`${name('latency_seconds')}{operation="PullImage"} 0.5\n`), text);
  assert.ok(text.includes(`${name('latency_seconds')}{operation="network_setup_pod"} 0.04\n`), text);
  assert.ok(text.includes(`${name('latency_seconds_total_count')}{operation="PullImage"} 2\n`), text);
  assert.match(text, /latency_seconds_total\{quantile="0.99",operation="PullImage"\} 0\.\d+\n/);
  assert.ok(!text.includes(`${name('total')}{operation="network_setup_pod"}`));
});

test('a family appears with its first sample, in sorted order, with bounds as Go writes them', async () => {
  await using metrics = await serve();
  assert.doesNotMatch(await metrics.scrape(), /operations_total|image_pulls_bytes/);
  metrics.pull.layerDone(layer, 'downloaded', 'quay.io/a/b:1');
  metrics.pull.downloaded(layer, 2_000_000);
  const text = await metrics.scrape();
  assert.match(text, /image_pulls_layer_size_bucket\{le="1000"\} 0\n/);
  assert.match(text, /image_pulls_layer_size_bucket\{le="1e\+06"\} 0\n/);
  assert.match(text, /image_pulls_layer_size_bucket\{le="1e\+07"\} 1\n/);
  assert.ok(text.includes(`image_pulls_bytes_total{mediatype="${layer.mediaType}",size=">1 MiB"} 2000000\n`), text);
  const families = [...text.matchAll(/^# HELP (\S+)/gm)].map(([, name = '']) => name);
  assert.ok(
    families.every((name, index) => index === 0 || (families[index - 1] ?? '') < name),
    families.join(' '),
  );
});

test('reused layers count as skipped, and failures by their known code', async () => {
  await using metrics = await serve();
  metrics.pull.layerDone(layer, 'reused', 'quay.io/a/b:1');
  metrics.pull.pullDone(undefined);
  metrics.pull.pullDone('MANIFEST_UNKNOWN');
  metrics.pull.pullDone('MADE_UP_BY_THE_REGISTRY');
  const text = await metrics.scrape();
  assert.ok(text.includes(`image_layer_reuse_total{name="quay.io/a/b:1@${layer.digest}"} 1\n`), text);
  assert.match(text, /image_pulls_skipped_bytes_total\{size=">1 MiB"\} 2000000\n/);
  assert.match(text, /image_pulls_success_total 1\n/);
  assert.match(text, /image_pulls_failure_total\{error="MANIFEST_UNKNOWN"\} 1\n/);
  assert.match(text, /image_pulls_failure_total\{error="UNKNOWN"\} 1\n/);
});

test('what is counted by container name ends with the container', async () => {
  await using metrics = await serve();
  metrics.oomKilled('k8s_a');
  metrics.monitorLost('k8s_a');
  metrics.seccompNotified('k8s_a', 'swapoff');
  metrics.eventDropped();
  const text = await metrics.scrape();
  assert.match(text, /containers_oom_count_total\{name="k8s_a"\} 1\n/);
  assert.match(text, /containers_stopped_monitor_count\{name="k8s_a"\} 1\n/);
  assert.match(text, /containers_seccomp_notifier_count_total\{name="k8s_a",syscall="swapoff"\} 1\n/);
  assert.match(text, /containers_events_dropped_total 1\n/);
  metrics.containerRemoved('k8s_a');
  const after = await metrics.scrape();
  assert.doesNotMatch(after, /k8s_a/);
  assert.match(after, /containers_oom_total 1\n/);
});

test('only the wanted collectors are served, whatever prefix they have', async () => {
  await using metrics = await serve({
    metricsCollectors: ['container_runtime_crio_default_runtime', 'crio_containers_oom_total', 'nonsense'],
  });
  metrics.operationDone('Version', 1, false);
  metrics.oomKilled('k8s_a');
  const text = await metrics.scrape();
  const own = [...text.matchAll(/^# TYPE (container_runtime_crio_\S+)/gm)].map(([, name]) => name);
  assert.deepEqual(own, ['container_runtime_crio_containers_oom_total', 'container_runtime_crio_default_runtime']);
  assert.match(text, /default_runtime\{runtime="crun"\} 1\n/);
});

test('the progress of a pull is there while it runs, and gone after it', async () => {
  const running = new Set<PullTracker>();
  await using metrics = await serve({}, () => [...running].map(({ snapshot }) => snapshot));
  const tracker = new PullTracker('quay.io/a/b:1', 'default', metrics.pull);
  running.add(tracker);
  const [moving, waiting] = tracker.setLayers([layer, { ...layer, digest: `sha256:${'b'.repeat(64)}` as Digest }]);
  moving?.setPhase('downloading');
  moving?.setEndpoint('https://quay.io');
  moving?.addBytes(1000);
  moving?.addUnpacked(400);
  waiting?.setPhase('exists');
  const text = await metrics.scrape();
  assert.match(text, /crio_ts_image_pulls_running 1\n/);
  assert.match(text, /crio_ts_image_pull_bytes\{image="quay.io\/a\/b:1"\} 4000000\n/);
  assert.match(text, /crio_ts_image_pull_downloaded_bytes\{image="quay.io\/a\/b:1"\} 2001000\n/);
  assert.match(text, /crio_ts_image_pull_unpacked_bytes\{image="quay.io\/a\/b:1"\} 2000400\n/);
  assert.match(text, /crio_ts_image_pull_layers\{image="quay.io\/a\/b:1",phase="exists"\} 1\n/);
  const labels = `image="quay.io/a/b:1",layer="${layer.digest}",phase="downloading",endpoint="https://quay.io"`;
  assert.ok(text.includes(`crio_ts_image_pull_layer_downloaded_bytes{${labels}} 1000\n`), text);
  assert.ok(text.includes(`crio_ts_image_pull_layer_unpacked_bytes{${labels}} 400\n`), text);
  assert.ok(!text.includes(`layer="sha256:${'b'.repeat(64)}"`), 'a layer that does not move has no series');
  running.clear();
  const after = await metrics.scrape();
  assert.match(after, /crio_ts_image_pulls_running 0\n/);
  assert.doesNotMatch(after, /quay.io\/a\/b:1"/);
});

test('a layer that another pull brings shows that one, and keeps both pulls alive', () => {
  const [leader] = new PullTracker('a').setLayers([layer]);
  const pull = new PullTracker('b');
  const [follower] = pull.setLayers([layer]);
  leader?.setPhase('downloading');
  follower?.setJoined(leader);
  leader?.setEndpoint('https://quay.io');
  leader?.addBytes(7);
  leader?.addUnpacked(5);
  const { phase, downloadedBytes, unpackedBytes, endpoint } = pull.snapshot.layers[0] ?? assert.fail();
  assert.deepEqual([phase, downloadedBytes, unpackedBytes, endpoint], ['joined', 7, 5, 'https://quay.io']);
  const idleMs = () => pull.idleMs;
  const start = performance.now();
  while (performance.now() - start < 5);
  const before = idleMs();
  leader?.addBytes(1);
  assert.ok(idleMs() < before, 'bytes of the leader are progress of the follower');
  follower?.setPhase('downloading');
  assert.equal(pull.snapshot.layers[0]?.downloadedBytes, 0, 'from now on its own');
});

test('the process itself is measured', async () => {
  await using metrics = await serve();
  const text = await metrics.scrape();
  for (const name of ['cpu_seconds_total', 'resident_memory_bytes', 'virtual_memory_bytes', 'open_fds', 'max_fds'])
    assert.match(text, new RegExp(`^process_${name} [0-9.e+]+$`, 'm'), name);
  assert.match(text, /processes_defunct \d+\n/);
});

test('other paths are 404, and a taken port is an error that names it', async () => {
  await using metrics = await serve();
  assert.equal((await get({ port: metrics.port, path: '/' })).status, 404);
  await assert.rejects(serve({ metricsPort: metrics.port }), new RegExp(`serve metrics on 127.0.0.1:${metrics.port}`));
});

test('the unix socket answers as the port does, and is removed at the end', async () => {
  await using folder = await temporaryFolder();
  const socketPath = join(folder.path, 'run', 'metrics.sock');
  {
    await using _metrics = await serve({ metricsSocket: socketPath });
    assert.match((await get({ socketPath, path: '/metrics?x=1' })).body, /default_runtime/);
  }
  await assert.rejects(get({ socketPath, path: '/metrics' }), /ENOENT/);
});

test('HTTPS with a pair that is made at start, and with another one as soon as the files change', async () => {
  await using folder = await temporaryFolder();
  const [cert, key] = [join(folder.path, 'cert.pem'), join(folder.path, 'key.pem')];
  await using metrics = await serve({ metricsCert: cert, metricsKey: key });
  const scrape = (ca: string) => get({ port: metrics.port, host: '127.0.0.1', path: '/metrics', ca }, true);
  const first = await readFile(cert, 'utf8');
  assert.match((await scrape(first)).body, /default_runtime/);
  await assert.rejects(get({ port: metrics.port, path: '/metrics' }), 'no plain HTTP beside it');
  const other = selfSigned(['127.0.0.1']);
  await assert.rejects(scrape(other.cert), /self-signed/);
  for (const [path, text] of [
    [cert, other.cert],
    [key, other.key],
  ] as const) {
    await writeFile(`${path}.new`, text);
    await rename(`${path}.new`, path);
  }
  assert.match((await scrape(other.cert)).body, /default_runtime/);
});

test('half a pair is an error and stays as it is', async () => {
  await using folder = await temporaryFolder();
  const [cert, key] = [join(folder.path, 'cert.pem'), join(folder.path, 'key.pem')];
  await writeFile(key, 'precious');
  await assert.rejects(ensureCertificate({ cert, key }, [], silentLog), /key.pem" exists, but ".*cert.pem" does not/);
  assert.equal(await readFile(key, 'utf8'), 'precious');
});

test('a crash at any step of making the pair is recovered from at the next start', async () => {
  await using folder = await temporaryFolder();
  const made = selfSigned(['localhost']);
  const steps: readonly (readonly [string, Record<string, string>])[] = [
    ['half a key', { 'key.pem.new': made.key.slice(0, 50) }],
    ['half a certificate', { 'key.pem.new': made.key, 'cert.pem.new': made.cert.slice(0, 50) }],
    ['both written', { 'key.pem.new': made.key, 'cert.pem.new': made.cert }],
    ['the key in its place', { 'key.pem': made.key, 'cert.pem.new': made.cert }],
  ];
  for (const [step, files] of steps) {
    const [cert, key] = [join(folder.path, step, 'cert.pem'), join(folder.path, step, 'key.pem')];
    await mkdir(join(folder.path, step));
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder.path, step, name), text);
    await ensureCertificate({ cert, key }, [], silentLog);
    const certificate = new X509Certificate(await readFile(cert));
    assert.ok(certificate.checkPrivateKey(createPrivateKey(await readFile(key))), step);
    assert.deepEqual((await readdir(join(folder.path, step))).toSorted(), ['cert.pem', 'key.pem'], step);
  }
  const strange = join(folder.path, 'strange');
  await mkdir(strange);
  await writeFile(join(strange, 'key.pem'), selfSigned([]).key);
  await writeFile(join(strange, 'cert.pem.new'), made.cert);
  const paths = { cert: join(strange, 'cert.pem'), key: join(strange, 'key.pem') };
  await assert.rejects(ensureCertificate(paths, [], silentLog), /does not/, 'the key of somebody else');
});

test('selfSigned makes certificates for any names', () => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
  fc.assert(
    fc.property(fc.array(address, { minLength: 1, maxLength: 12 }), (names) => {
      const certificate = new X509Certificate(selfSigned(names).cert);
      assert.ok(certificate.verify(certificate.publicKey));
      for (const name of names)
        assert.ok(certificate.checkHost(name) !== undefined || certificate.checkIP(name) !== undefined, name);
    }),
    { numRuns: 30 },
  );
});

test('labels stay within known sets', () => {
  assert.deepEqual([0, 1, 1024, 1025, 2 ** 20 + 1, 60 * 2 ** 20, 501 * 2 ** 20, 2 ** 30 + 1, 2 ** 40].map(sizeLabel), [
    '>0 B',
    '>0 B',
    '>0 B',
    '>1 KiB',
    '>1 MiB',
    '>50 MiB',
    '>500 MiB',
    '>1 GiB',
    '>10 GiB',
  ]);
  assert.equal(failureLabelOf('DENIED'), 'DENIED');
  assert.equal(failureLabelOf('x'), 'UNKNOWN');
  assert.equal(mediaTypeLabel(layer.mediaType), layer.mediaType);
  assert.equal(mediaTypeLabel('text/evil'), 'other');
  assert.equal(
    mediaTypeLabel('application/vnd.docker.image.rootfs.diff.tar.gzip'),
    'application/vnd.docker.image.rootfs.diff.tar.gzip',
  );
  assert.equal(mediaTypeLabel('application/vnd.oci.made-up-1'), 'other');
  const forgotten: string[] = [];
  const recent = new RecentValues(2, (value) => forgotten.push(value));
  for (const value of ['a', 'b', 'a', 'c']) recent.use(value);
  assert.deepEqual(forgotten, ['b']);
});

test('goNumber writes as strconv does', () => {
  const expected = { 1: '1', 1000: '1000', 100000: '100000', 1e6: '1e+06', 5e7: '5e+07', 1e10: '1e+10', 1.5: '1.5' };
  for (const [value, text] of Object.entries(expected)) assert.equal(goNumber(Number(value)), text);
  assert.equal(goNumber(0.00001), '1e-05');
});

async function temporaryFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'crio-metrics-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  // A TCP server's address is no string.
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function get(options: RequestOptions, isSecure = false): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const call = (isSecure ? httpsRequest : httpRequest)(
      { host: '127.0.0.1', agent: false, ...options },
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString() }));
        response.on('error', reject);
      },
    );
    call.on('error', reject);
    call.end();
  });
}
