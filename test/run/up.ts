/** `make run`: starts the daemon and runs a pod with one container. Argument: the image, else a small one of our own. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type CriClient } from '../client/client.ts';
import { containerStatus, ensureImage, podConfig, runContainer, runPod } from '../client/pods.ts';
import { buildImages } from '../fixtures/build.ts';
import { localImageName, pauseImageName } from '../fixtures/images.ts';
import { freePort, registryConfig } from '../fixtures/registry.ts';
import { bridgeNetwork, registriesConf, write } from './node-files.ts';
import {
  bridgeName,
  belongsTo,
  otherCheckout,
  recordBefore,
  recordFile,
  runFolder,
  runSocket,
  runtimePaths,
  takeOver,
  volatileFolder,
} from './run-state.ts';
import { buildReaper, needsHugetlb, repository } from './stage.ts';

const wanted = process.argv[2] ?? localImageName;
const ownCommand = ['sh', '-c', 'echo "Hello from $(hostname), a container on $(uname -sr)."; exec sleep 1000000'];
const other = otherCheckout();
if (other !== undefined) {
  console.error(`run: ${belongsTo(other)}`);
  process.exit(1);
}
using client = connect(runSocket);
if (await isRunning(client)) console.log('The daemon is running already.');
else await startDaemon(client);
await runFirstPod(client);

async function isRunning(cri: CriClient): Promise<boolean> {
  if (!existsSync(runSocket)) return false;
  try {
    await cri.runtime.version({}, { timeoutMs: 2000 });
    return true;
  } catch {
    // A socket that a daemon left behind.
    return false;
  }
}

async function startDaemon(cri: CriClient): Promise<void> {
  const before = recordBefore();
  mkdirSync(runFolder, { recursive: true });
  takeOver();
  const images = await buildImages('small');
  const registry = `127.0.0.1:${await freePort()}`;
  write(join(runFolder, 'registry.yml'), registryConfig(images.storage, registry));
  writeConfig(registry);
  if (needsHugetlb()) {
    mkdirSync('/sys/fs/cgroup/hugetlb', { recursive: true });
    writeFileSync(join(runFolder, 'hugetlb'), '');
  }
  const log = openSync(join(runFolder, 'daemon.log'), 'a');
  const daemon = [
    join(repository, 'bin/crio'),
    '--config',
    join(runFolder, 'crio.conf'),
    '--config-dir',
    join(runFolder, 'crio.conf.d'),
  ];
  const supervisor = [
    'sh',
    join(import.meta.dirname, 'supervise.sh'),
    runFolder,
    join(runFolder, 'registry.yml'),
    ...daemon,
  ];
  const environment = { ...process.env, CONTAINER_REGISTRIES_CONF: join(runFolder, 'registries.conf') };
  const child = spawn(
    'unshare',
    ['--mount', '--propagation', 'private', buildReaper(), join(runFolder, 'leftovers'), ...supervisor],
    {
      stdio: ['ignore', log, log],
      detached: true,
      env: environment,
    },
  );
  closeSync(log);
  writeFileSync(recordFile, JSON.stringify({ ...before, supervisor: child.pid ?? -1 }));
  let ended = false;
  child.once('exit', () => (ended = true));
  for (let tries = 0; !(await isRunning(cri)); tries++) {
    if (ended || tries > 200)
      throw new Error(
        `start the daemon: no answer:\n${readFileSync(join(runFolder, 'daemon.log'), 'utf8').slice(-3000)}`,
      );
    await sleep(100);
  }
  child.unref();
}

/** The default configuration of `make run`: nothing of the machine's own is read or written. */
function writeConfig(registry: string): void {
  const { crun, runc, conmon } = runtimePaths();
  write(join(runFolder, 'registries.conf'), registriesConf(registry, ['registry.k8s.io/pause', 'localhost']));
  write(join(runFolder, 'policy.json'), JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }] }));
  // A network of its own even where the node has one: the daemon deletes attachments of pods that it does not know.
  write(
    join(runFolder, 'net.d/10-crio-ts.conflist'),
    JSON.stringify(bridgeNetwork({ name: 'crio-ts', bridge: bridgeName, subnet: '10.83.0.0/16' })),
  );
  mkdirSync(join(runFolder, 'cni-state'), { recursive: true });
  mkdirSync('/var/lib/cni', { recursive: true });
  mkdirSync(join(runFolder, 'crio.conf.d'), { recursive: true });
  const handler = (name: string, path: string): string[] => [
    `[crio.runtime.runtimes.${name}]`,
    `runtime_path = "${path}"`,
    `runtime_root = "${volatileFolder}/${name}"`,
    `monitor_path = "${conmon}"`,
  ];
  const lines = [
    '[crio]',
    `root = "${runFolder}/storage"`,
    `runroot = "${volatileFolder}/storage"`,
    'storage_driver = "overlay"',
    `log_dir = "${runFolder}/logs"`,
    `version_file = "${volatileFolder}/version"`,
    `clean_shutdown_file = "${runFolder}/clean.shutdown"`,
    '[crio.api]',
    `listen = "${runSocket}"`,
    '[crio.runtime]',
    `namespaces_dir = "${volatileFolder}"`,
    `container_exits_dir = "${volatileFolder}/exits"`,
    `container_attach_socket_dir = "${volatileFolder}"`,
    ...(existsSync('/run/systemd/system') ? [] : ['cgroup_manager = "cgroupfs"']),
    ...handler('crun', crun),
    ...handler('runc', runc),
    '[crio.image]',
    `signature_policy = "${runFolder}/policy.json"`,
    `signature_policy_dir = "${runFolder}/policies"`,
    `namespaced_auth_dir = "${runFolder}/auth"`,
    `pause_image = "${pauseImageName}"`,
    '[crio.network]',
    'plugin_dirs = ["/usr/lib/cni"]',
    `network_dir = "${runFolder}/net.d"`,
  ];
  write(join(runFolder, 'crio.conf'), `${lines.join('\n')}\n`);
}

async function runFirstPod(cri: CriClient): Promise<void> {
  const { runtimeName, runtimeVersion } = await cri.runtime.version({});
  console.log(`${runtimeName} ${runtimeVersion} answers on ${runSocket}`);
  try {
    await ensureImage(cri, wanted);
  } catch (error) {
    console.error(`run: pull "${wanted}": ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
    return;
  }
  console.log(`pulled ${wanted}`);
  const name = `hello-${Date.now().toString(36).slice(-4)}`;
  const defaults = podConfig({ name });
  const pod = await runPod(cri, { name, config: podParts(defaults.metadata?.uid ?? '', name) });
  const { status } = await cri.runtime.podSandboxStatus({ podSandboxId: pod.id });
  console.log(`pod ${name} ${pod.id.slice(0, 13)} runs with address ${status?.network?.ip ?? ''}`);
  const id = await runContainer(cri, pod, {
    image: wanted,
    ...(wanted === localImageName ? { command: ownCommand } : {}),
    // crictl shows a container's pod by them, as the kubelet sets them.
    config: { labels: { ...pod.config.labels, 'io.kubernetes.container.name': 'main' } },
  });
  console.log(`container main ${id.slice(0, 13)} runs; its log:\n`);
  await sleep(1000);
  const { logPath } = await containerStatus(cri, id);
  for (const line of readFileSync(logPath, 'utf8').split('\n').slice(0, 20)) console.log(`    ${line}`);
  printNext(id);
}

function podParts(uid: string, name: string): object {
  const parent = existsSync('/run/systemd/system')
    ? `crio-ts-pod${uid.replaceAll('-', '_')}.slice`
    : `/crio-ts/pod${uid}`;
  const { linux } = podConfig({ name });
  return { logDirectory: join(runFolder, 'logs', name), linux: { ...linux, cgroupParent: parent } };
}

function printNext(id: string): void {
  const cri = './test/client/cri';
  const short = id.slice(0, 13);
  console.log('Next:');
  for (const line of [
    `${cri} ps`,
    `${cri} pods`,
    `${cri} images`,
    `${cri} logs ${short}`,
    `${cri} exec ${short} ls -l /`,
    `curl -s --unix-socket ${runSocket} http://localhost/info`,
    'make stop',
  ]) {
    console.log(`    ${line}`);
  }
  console.log(`The daemon's log: ${join(runFolder, 'daemon.log')}`);
}
