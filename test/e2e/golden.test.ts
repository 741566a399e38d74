import { fromJson, toJson, type JsonValue } from '@bufbuild/protobuf';
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync, readFileSync, lstatSync, readlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import {
  ContainerConfigSchema,
  ContainerStatusResponseSchema,
  PodSandboxConfigSchema,
  PodSandboxStatusResponseSchema,
  type ContainerConfig,
  type PodSandboxConfig,
} from '../../src/cri/gen/api_pb.ts';
import type { CriClient } from '../client/client.ts';
import { waitForExit } from '../client/pods.ts';
import { differences, normalise, replaceAll, type Json } from '../golden/normalise.ts';
import { meantDifferences } from '../golden/meant.ts';
import { stageCgroup } from '../run/stage.ts';
import { write } from '../run/node-files.ts';
import { useDaemon } from './environment.ts';

/*
 * The requests that were recorded with CRI-O, sent to our daemon: the same files, keys, shapes, modes, paths and answers
 * must come out. What is meant to differ is in test/golden/meant.ts, each with its reason.
 */
const golden = join(import.meta.dirname, '../golden');
const pods = ['plain', 'hostns', 'sharedpid', 'userns', 'viarunc'] as const;
const recordedImage = '127.0.0.1:5000/e2e-test-images/busybox:1.37.0-1';
const graph = '/var/lib/containers/storage/overlay-containers';
const runRoot = '/run/containers/storage/overlay-containers';

interface Running {
  readonly podId: string;
  readonly containerId: string;
  readonly podConfig: PodSandboxConfig;
}

prepareMachine();
const node = useDaemon({ defaultRuntime: 'runc', runcRoot: '/run/crun' }, runAllRecorded);
const running = new Map<string, Running>();
const replacements = new Map<string, string>();

after(() => writeFileSync(join(process.env['CRIO_TS_LOGS'] ?? '/tmp', 'golden-differences.txt'), found.join('\n')));

const found: string[] = [];

for (const name of pods) {
  describe(`pod ${name} is as CRI-O leaves it`, () => {
    test('config.json of the pod and of the container', () => {
      const { podId, containerId } = idsOf(name);
      for (const folder of [graph, runRoot]) {
        compare(`${name}/pod.config.json`, readJson(`${folder}/${podId}/userdata/config.json`));
        compare(`${name}/container.config.json`, readJson(`${folder}/${containerId}/userdata/config.json`));
      }
    });

    test('state.json of the pod and of the container', () => {
      const { podId, containerId } = idsOf(name);
      compare(`${name}/container.dir.state.json`, readJson(`${graph}/${containerId}/userdata/state.json`));
      if (name === 'sharedpid')
        compare(`${name}/pod.dir.state.json`, readJson(`${graph}/${podId}/userdata/state.json`));
      else compare(`${name}/pod.run.state.json`, readJson(`${runRoot}/${podId}/userdata/state.json`));
    });

    test('the answers to status requests', async () => {
      const { runtime } = node.client;
      const { podId, containerId } = idsOf(name);
      const container = await runtime.containerStatus({ containerId, verbose: true });
      compare(
        `${name}/cri.inspect.json`,
        shown(toJson(ContainerStatusResponseSchema, container, { alwaysEmitImplicit: true })),
      );
      const pod = await runtime.podSandboxStatus({ podSandboxId: podId, verbose: true });
      compare(
        `${name}/cri.inspectp.json`,
        shown(toJson(PodSandboxStatusResponseSchema, pod, { alwaysEmitImplicit: true })),
      );
    });

    test('the answer of GET /containers', async () => {
      const text = await httpGet(node.daemon.socket, `/containers/${idsOf(name).containerId}`);
      compare(`${name}/http.containers.json`, JSON.parse(text) as Json);
    });
  });
}

test('every file of the pods and containers is there, with its mode and owner, and no other', () => {
  const recorded = readFileSync(join(golden, 'tree.txt'), 'utf8').split('\n').filter(Boolean).toSorted();
  const now = treeOfPods();
  const missing = recorded.filter((line) => !now.includes(line)).map((line) => `tree.txt missing: ${line}`);
  const added = now.filter((line) => !recorded.includes(line)).map((line) => `tree.txt added: ${line}`);
  expectMeant([...missing, ...added]);
});

test('the records of containers and images in the store have the same keys', () => {
  const first = (file: string): Json =>
    (JSON.parse(readFileSync(join(golden, 'storage', file), 'utf8')) as Json[])[0] ?? null;
  for (const [file, path] of [
    ['volatile-containers.json', 'overlay-containers/volatile-containers.json'],
    ['images.json', 'overlay-images/images.json'],
    ['layers.json', 'overlay-layers/layers.json'],
    ['volatile-layers.json', 'overlay-layers/volatile-layers.json'],
  ] as const) {
    const now = (readJson(`/var/lib/containers/storage/${path}`) as Json[])[0] ?? null;
    expectMeant(differences(keysOnly(first(file)), keysOnly(now)).map((line) => `storage/${file} ${line}`));
  }
});

test("the cached result of CNI has libcni's format", () => {
  const { podId } = idsOf('plain');
  compare('plain/cni-cache.json', readJson(`/var/lib/cni/results/crio-${podId}-eth0`));
});

test('GET /info', async () => {
  compare('http.info.json', JSON.parse(await httpGet(node.daemon.socket, '/info')) as Json);
});

test('a stopped pod and a killed container', async () => {
  const { runtime } = node.client;
  const { podId, containerId } = idsOf('viarunc');
  await runtime.stopContainer({ containerId, timeout: 1n });
  await runtime.stopPodSandbox({ podSandboxId: podId });
  compare('viarunc-stopped/container.state.json', readJson(`${graph}/${containerId}/userdata/state.json`));
  compare('viarunc-stopped/pod.state.json', readJson(`${runRoot}/${podId}/userdata/state.json`));
  const container = await runtime.containerStatus({ containerId });
  compare(
    'viarunc-stopped/cri.status.json',
    statusOf(shown(toJson(ContainerStatusResponseSchema, container, { alwaysEmitImplicit: true }))),
  );
  const pod = await runtime.podSandboxStatus({ podSandboxId: podId });
  compare(
    'viarunc-stopped/cri.podstatus.json',
    statusOf(shown(toJson(PodSandboxStatusResponseSchema, pod, { alwaysEmitImplicit: true }))),
  );
});

/** What the recording machine had at the paths that the requests name. */
function prepareMachine(): void {
  mkdirSync('/srv/golden/vol', { recursive: true });
  write('/srv/golden/hosts', '127.0.0.1 localhost\n');
  for (const name of pods) {
    const config = readRequest(name, 'pod');
    const logs = (config as { log_directory: string }).log_directory;
    const path = (readRequest(name, 'container') as { log_path: string }).log_path;
    mkdirSync(join(logs, path, '..'), { recursive: true });
    chmodSync(logs, 0o755);
  }
  const cache = readJson(join(golden, 'plain/cni-cache.json')) as { config: string };
  write('/etc/cni/net.d/05-crio.conflist', Buffer.from(cache.config, 'base64').toString());
}

async function runAllRecorded(client: CriClient): Promise<void> {
  replacements.set(stageCgroup(), 'golden');
  await client.image.pullImage({ image: { image: recordedImage } });
  for (const name of pods) {
    const result = await runRecorded(client, name);
    running.set(name, result);
    replacements.set(result.podId, `<${name} pod>`);
    replacements.set(result.containerId, `<${name} container>`);
  }
  await waitForExit(client, idsOf('sharedpid').containerId);
}

async function runRecorded(client: CriClient, name: string): Promise<Running> {
  const handler = name === 'viarunc' ? 'runc' : '';
  const podConfig = fromJson(PodSandboxConfigSchema, inStage(readRequest(name, 'pod')));
  const config: ContainerConfig = fromJson(
    ContainerConfigSchema,
    encodeEnvironment(inStage(readRequest(name, 'container'))),
  );
  const { podSandboxId } = await client.runtime.runPodSandbox({ config: podConfig, runtimeHandler: handler });
  const { containerId } = await client.runtime.createContainer({ podSandboxId, config, sandboxConfig: podConfig });
  await client.runtime.startContainer({ containerId });
  return { podId: podSandboxId, containerId, podConfig };
}

function readRequest(name: string, kind: 'pod' | 'container'): Json {
  return readJson(join(golden, name, `request.${kind}.json`));
}

/** The same request with its cgroups below that of the stage. */
function inStage(value: Json): JsonValue {
  return JSON.parse(JSON.stringify(value).replaceAll('"/golden/', `"/${stageCgroup()}/`)) as JsonValue;
}

/** Environment values are bytes in the protocol, so base64 in its JSON; the recorded requests have plain text. */
function encodeEnvironment(value: JsonValue): JsonValue {
  const container = value as { envs?: { key: string; value: string }[] };
  return {
    ...container,
    envs: (container.envs ?? []).map((entry) => ({ ...entry, value: Buffer.from(entry.value).toString('base64') })),
  };
}

/** An answer as crictl shows it: information is opened, times are text, the spec is left out. */
function shown(value: JsonValue): Json {
  const { info, status } = value as { info: Record<string, string>; status: Record<string, Json> };
  const opened = JSON.parse(info['info'] ?? 'null') as Record<string, Json> | null;
  const times = Object.fromEntries(
    Object.entries(status)
      .filter(([key]) => /^(created|started|finished)At$/.test(key))
      .map(([key, time]) => [key, timeText(time)]),
  );
  const more =
    opened === null
      ? {}
      : { info: 'runtimeSpec' in opened ? { ...opened, runtimeSpec: '(the content of config.json)' } : opened };
  return { ...more, status: { ...status, ...times } };
}

function statusOf(answer: Json): Json {
  return (answer as { status: Json }).status;
}

function timeText(nanoseconds: Json): string {
  return nanoseconds === '0' ? '0001-01-01T00:00:00Z' : '2026-01-01T00:00:00Z';
}

function compare(file: string, now: Json): void {
  const recorded = normalise(namesOnce(withSeccomp(readJson(join(golden, file)))), new Map(recordedIds()));
  expectMeant(differences(recorded, normalise(namesOnce(now), replacements)).map((line) => `${file} ${line}`));
}

/** The recordings keep the long seccomp section once and refer to it elsewhere. */
function withSeccomp(value: Json): Json {
  const spec = value as { linux?: { seccomp?: Json } };
  if (typeof spec.linux?.seccomp !== 'string') return value;
  const full = readJson(join(golden, 'plain/container.config.json')) as { linux: { seccomp: Json } };
  return { ...spec, linux: { ...spec.linux, seccomp: full.linux.seccomp } };
}

/** Names of system calls as a set: CRI-O's pods have a few twice, left over from names that it takes out. */
function namesOnce(value: Json): Json {
  const text = JSON.stringify(value, (key, item: unknown) =>
    key === 'names' && Array.isArray(item) ? [...new Set<string>(item)].toSorted((a, b) => (a < b ? -1 : 1)) : item,
  );
  return JSON.parse(text) as Json;
}

function expectMeant(lines: readonly string[]): void {
  found.push(...lines);
  const unexplained = lines.filter((line) => !meantDifferences.some(({ place }) => place.test(line)));
  assert.equal(unexplained.join('\n'), '');
}

/** The ids in the recordings, by what they name. */
function recordedIds(): [string, string][] {
  return pods.flatMap((name): [string, string][] => {
    const id = (kind: string): string =>
      (readJson(join(golden, name, `cri.${kind}.json`)) as { status: { id: string } }).status.id;
    return [
      [id('inspectp'), `<${name} pod>`],
      [id('inspect'), `<${name} container>`],
    ];
  });
}

function idsOf(name: string): Running {
  return running.get(name) ?? assert.fail(`pod ${name} did not start`);
}

function readJson(path: string): Json {
  return JSON.parse(readFileSync(path, 'utf8')) as Json;
}

/** An object with its values replaced by their types. */
function keysOnly(value: Json): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return Array.isArray(value) ? 'array' : typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [replaceAll(key, new Map()), keysOnly(item)]));
}

function treeOfPods(): string[] {
  const folders = [graph, runRoot, '/run/crio', '/var/lib/cni/results', '/var/log/crio/pods'];
  const lines = folders
    .flatMap((folder) => walk(folder))
    .map((line) => [...replacements].reduce((text, [id, meaning]) => text.replaceAll(id, meaning), line));
  return lines.filter((line) => line.includes('<')).toSorted();
}

function walk(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    const status = lstatSync(path);
    const kind = status.isDirectory()
      ? 'd'
      : status.isSymbolicLink()
        ? 'l'
        : status.isFIFO()
          ? 'p'
          : status.isSocket()
            ? 's'
            : 'f';
    const target = kind === 'l' ? ` -> ${readlinkSync(path)}` : '';
    const line = `${kind} ${(status.mode & 0o7777).toString(8)} ${status.uid}:${status.gid} ${path}${target}`;
    return kind === 'd' ? [line, ...walk(path)] : [line];
  });
}

function httpGet(socketPath: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, headers: { host: 'localhost' } }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () => resolve(Buffer.concat(parts).toString()));
    });
    call.on('error', reject);
    call.end();
  });
}
