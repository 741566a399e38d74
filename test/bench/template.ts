import { readFileSync } from 'node:fs';
import { SecurityProfile_ProfileType } from '../../src/cri/gen/api_pb.ts';
import type { CriClient } from '../client/client.ts';
import { containerConfig, podConfig, type Pod } from '../client/pods.ts';
import type { Template } from './floor.ts';
import { round2 } from './statistics.ts';

/** Ends at once on TERM, as a well-behaved server does. */
export const command = ['sh', '-c', 'trap "exit 0" TERM; sleep 1000000 & wait'];
/** As most clusters ask for it; without a profile nothing would be compiled or cached. */
export const linux = { securityContext: { seccomp: { profileType: SecurityProfile_ProfileType.RuntimeDefault } } };

/** A running container, and what its copies by hand are made from. */
export interface RunningTemplate {
  readonly pod: Pod;
  readonly containerId: string;
  readonly template: Template;
}

export async function startTemplate(client: CriClient, handler: string): Promise<RunningTemplate> {
  const pod = await runBenchPod(client, handler);
  const containerId = await createAndStart(client, pod);
  const bundle = `/run/containers/storage/overlay-containers/${containerId}/userdata`;
  const runtimePath = handler === 'runc' ? '/usr/sbin/runc' : '/usr/bin/crun';
  return { pod, containerId, template: { bundle, runtimePath, runtimeRoot: `/run/${handler}` } };
}

export async function runBenchPod(client: CriClient, handler: string): Promise<Pod> {
  const config = podConfig({});
  const { podSandboxId } = await client.runtime.runPodSandbox({ config, runtimeHandler: handler });
  return { id: podSandboxId, config };
}

export async function createAndStart(client: CriClient, pod: Pod): Promise<string> {
  const { containerId } = await client.runtime.createContainer({
    podSandboxId: pod.id,
    config: containerConfig({ command, config: { linux } }),
    sandboxConfig: pod.config,
  });
  await client.runtime.startContainer({ containerId });
  return containerId;
}

/** Actions per second when so many workers each do a number of them one after the other. */
export async function rate(
  workers: number,
  each: number,
  action: (worker: number) => Promise<unknown> | undefined,
): Promise<number> {
  const begin = performance.now();
  const work = async (worker: number): Promise<void> => {
    for (let count = 0; count < each; count++) await action(worker);
  };
  await Promise.all(Array.from({ length: workers }, (_, worker) => work(worker)));
  return round2((workers * each * 1000) / (performance.now() - begin));
}

/** VmRSS of a process, or only its own memory without the pages of its program, proc_pid_status(5). */
export function residentMiB(pid: number, kind: 'VmRSS' | 'RssAnon' = 'VmRSS'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kilobytes = Number(new RegExp(`^${kind}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  return round2(kilobytes / 1024);
}
