import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startDaemon, type Daemon } from '../run/daemon.ts';
import { write } from '../run/node-files.ts';
import { buildKubelet } from './build.ts';
import { manifestFile, prepareNode, startKubelet, type Kubelet } from './kubelet.ts';
import { hostFolder, pods } from './pods.ts';

/** A node: the daemon, a kubelet that uses it, and the pods' manifests. */
export interface World {
  readonly daemon: Daemon;
  readonly kubelet: Kubelet;
  readonly client: string;
}

export async function startWorld(socket: string): Promise<World> {
  const programs = buildKubelet();
  prepareNode();
  prepareHostFiles();
  await using undo = new AsyncDisposableStack();
  const daemon = undo.use(await startDaemon({ socket }));
  const kubelet = undo.use(await startKubelet({ program: programs.kubelet, socket }));
  for (const name of Object.keys(pods)) addPod(name);
  undo.move();
  return { daemon, kubelet, client: programs.client };
}

export async function stopWorld({ daemon, kubelet }: World): Promise<void> {
  await kubelet.stop();
  await daemon[Symbol.asyncDispose]();
}

export function addPod(name: string): void {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', labels: { app: name } },
    spec: pods[name],
  };
  writeFileSync(manifestFile(name), JSON.stringify(pod));
}

export function removePod(name: string): void {
  rmSync(manifestFile(name));
}

function prepareHostFiles(): void {
  mkdirSync(join(hostFolder, 'made'), { recursive: true });
  write(join(hostFolder, 'config/key'), 'value\n');
  write(join(hostFolder, 'config/other'), 'other\n');
}
