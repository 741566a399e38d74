import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { waitFor } from '../client/pods.ts';
import { daemonFile } from '../run/daemon.ts';
import { useDaemon } from './environment.ts';
import { startGatedRegistry, type GatedRegistry } from './gated-registry.ts';

let registry: GatedRegistry;
before(async () => {
  registry = await startGatedRegistry();
});
after(async () => registry[Symbol.asyncDispose]());
const node = useDaemon();

/** As docs/images.md describes it. */
interface ShownPull {
  readonly reference: string;
  readonly namespace: string;
  readonly started: number;
  readonly phase: string;
  readonly layers: readonly {
    readonly digest: string;
    readonly size: number;
    readonly downloaded: number;
    readonly unpacked: number;
    readonly phase: string;
    readonly endpoint: string;
    readonly bytes_per_second: number;
  }[];
}

test('GET /pulls shows bytes, phase, endpoint and speed of each layer, also to a pull that has joined another', async () => {
  const { client, daemon } = node;
  registry.close();
  const image = registry.put('shown', [3_000_000, 2_000_000]);
  const first = client.image.pullImage({ image: { image: image.name } });
  const shown = await waitFor('half of each layer, some of it unpacked', 10_000, async () => {
    const found = (await pulls(daemon.socket)).find(({ reference }) => reference === image.name);
    return found !== undefined &&
      found.layers.length === 2 &&
      found.layers.every((layer) => isHalf(layer) && layer.unpacked > 0)
      ? found
      : undefined;
  });
  assert.deepEqual([shown.namespace, shown.phase], ['', 'layers']);
  assert.ok(Math.abs(shown.started - Date.now()) < 60_000);
  for (const [index, layer] of shown.layers.entries()) {
    assert.equal(layer.digest, image.layerDigests[index]);
    assert.deepEqual([layer.phase, layer.endpoint], ['downloading', `http://${registry.host}`]);
    assert.ok(layer.bytes_per_second > 0 && layer.unpacked > 0 && layer.unpacked <= layer.downloaded);
  }
  const sandboxConfig = { metadata: { name: 'p', namespace: 'team', uid: '1', attempt: 0 } };
  const second = client.image.pullImage({ image: { image: image.name }, sandboxConfig });
  const joined = await waitFor('the pull of another namespace', 10_000, async () => {
    const found = (await pulls(daemon.socket)).find(({ namespace }) => namespace === 'team');
    return found?.layers.every(({ phase }) => phase === 'joined') === true && found.layers.length === 2
      ? found
      : undefined;
  });
  assert.ok(joined.layers.every(isHalf), 'it shows the bytes of the pull that brings the layers');
  registry.open();
  assert.deepEqual(await first, await second);
  assert.deepEqual(await pulls(daemon.socket), []);
});

test('GET /pulls/events follows a pull to its end', async () => {
  const { client, daemon } = node;
  registry.close();
  const image = registry.put('followed', [200_000]);
  await using events = await follow(daemon.socket);
  const pulling = client.image.pullImage({ image: { image: image.name } });
  await waitFor('an event with half of the layer', 10_000, () =>
    events.progress().some(({ layers }) => layers.some(isHalf)),
  );
  registry.open();
  await pulling;
  await waitFor('the event of the end', 10_000, () => /event: end\ndata: .*followed:1/.test(events.text()));
});

test('crio pull prints plain lines where there is no terminal, and the id last', async () => {
  registry.close();
  const image = registry.put('lines', [200_000, 100_000]);
  const command = run([daemonFile, 'pull', image.name]);
  await waitFor('the lines of both layers', 10_000, () => command.text().match(/downloading/g)?.length === 2);
  registry.open();
  assert.equal(await command.code, 0, command.text());
  const [first = '', second = ''] = image.layerDigests.map((digest) => digest.slice('sha256:'.length).slice(0, 12));
  const lines = command.text().trimEnd().split('\n');
  assert.equal(lines.at(-1), image.id);
  assert.ok(lines.includes(`layer ${first}: downloading (200.2 KB) from http://${registry.host}`), command.text());
  for (const layer of [first, second]) assert.ok(lines.some((line) => line.startsWith(`layer ${layer}: done`)));
  assert.doesNotMatch(command.text(), /\x1b/);
});

test('crio pull draws bars in a terminal, with what is downloaded and what is unpacked', async () => {
  registry.close();
  const image = registry.put('bars', [4_000_000]);
  // script(1) runs the command on a terminal of its own.
  const command = run([
    'script',
    '--quiet',
    '--return',
    '--command',
    `stty cols 100 rows 30; ${daemonFile} pull ${image.name}`,
    '/dev/null',
  ]);
  const layer = image.layerDigests[0]?.slice('sha256:'.length).slice(0, 12) ?? '';
  await waitFor('a bar that is half full', 10_000, () =>
    new RegExp(`${layer} \\[={1,24}-* {24}\\] +4\\.0 MB .* downloading`).test(command.text()),
  );
  assert.match(command.text(), /layers: 2\.0 MB of 4\.0 MB .*from http:\/\/127\.0\.0\.1/);
  registry.open();
  assert.equal(await command.code, 0, command.text());
  assert.match(command.text(), new RegExp(`\\x1b\\[\\d+A[^]*${layer} \\[={48}\\][^]*${image.id}\\r?\\n$`));
});

test('crio pull of what does not exist ends with the error and code 1', async () => {
  const command = run([daemonFile, 'pull', `${registry.host}/gated/nothere:1`]);
  assert.equal(await command.code, 1);
  assert.match(command.text(), /unable to pull image: .*MANIFEST_UNKNOWN/);
});

function isHalf({ size, downloaded }: ShownPull['layers'][number]): boolean {
  return downloaded === size >> 1;
}

async function pulls(socketPath: string): Promise<readonly ShownPull[]> {
  const body = await new Promise<string>((resolve, reject) => {
    const call = request({ socketPath, path: '/pulls', headers: { host: 'crio' } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => resolve(text));
    });
    call.on('error', reject);
    call.end();
  });
  // The daemon's own answer; the tests look at what is in it.
  return (JSON.parse(body) as { pulls: readonly ShownPull[] }).pulls;
}

interface Followed extends AsyncDisposable {
  text(): string;
  progress(): readonly ShownPull[];
}

function follow(socketPath: string): Promise<Followed> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path: '/pulls/events', headers: { host: 'crio' } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('error', () => undefined); // ended by the test
      assert.equal(response.headers['content-type'], 'text/event-stream');
      resolve({
        text: () => text,
        progress: () =>
          [...text.matchAll(/^event: progress\ndata: (.*)\n\n/gm)].map(
            // As in `pulls`.
            ([, data = '']) => JSON.parse(data) as ShownPull,
          ),
        async [Symbol.asyncDispose]() {
          call.destroy();
        },
      });
    });
    call.on('error', reject);
    call.end();
  });
}

function run([file = '', ...args]: readonly string[]): { text(): string; readonly code: Promise<number | null> } {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TERM: 'xterm' } });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (part: string) => (text += part));
  const code = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { text: () => text, code };
}
