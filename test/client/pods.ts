import type { Message, MessageInitShape } from '@bufbuild/protobuf';
import { randomUUID } from 'node:crypto';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ContainerState,
  NamespaceMode,
  type ContainerConfigSchema,
  type ContainerStatus,
  type LinuxContainerConfigSchema,
  type LinuxContainerSecurityContextSchema,
  type PodSandboxConfigSchema,
} from '../../src/cri/gen/api_pb.ts';
import type { CriClient } from './client.ts';

/** Plain objects, not messages, so that they can be spread. */
export type PodInit = Exclude<MessageInitShape<typeof PodSandboxConfigSchema>, Message>;
export type ContainerInit = Exclude<MessageInitShape<typeof ContainerConfigSchema>, Message>;

type SecurityInit = Exclude<MessageInitShape<typeof LinuxContainerSecurityContextSchema>, Message>;
type ContainerLinuxInit = Exclude<MessageInitShape<typeof LinuxContainerConfigSchema>, Message> & {
  securityContext?: SecurityInit;
};

export interface Pod {
  readonly id: string;
  /** The request's configuration; CreateContainer wants it again. */
  readonly config: PodInit;
}

export interface PodOptions {
  readonly name?: string;
  readonly namespace?: string;
  readonly handler?: string;
  /** Replaces parts of the default configuration. */
  readonly config?: Partial<PodInit>;
}

/** A pod as kubelet asks for it: own network and IPC, a PID namespace per container, logs in a folder of its own. */
export function podConfig({
  name = `pod-${randomUUID().slice(0, 8)}`,
  namespace = 'default',
  config = {},
}: PodOptions): PodInit {
  const uid = randomUUID();
  return {
    metadata: { name, namespace, uid, attempt: 0 },
    hostname: name,
    logDirectory: `/var/log/crio/pods/${namespace}_${name}_${uid}`,
    labels: { 'io.kubernetes.pod.name': name, 'io.kubernetes.pod.namespace': namespace, 'io.kubernetes.pod.uid': uid },
    linux: {
      cgroupParent: cgroupParent(`pod${uid}`),
      securityContext: { namespaceOptions: separateNamespaces },
    },
    ...config,
  };
}

/** A cgroup parent of a test's own, below that of its stage. */
export function cgroupParent(name: string): string {
  const stage = process.env['CRIO_TS_STAGE'];
  return `/${stage === undefined ? 'crio-ts' : basename(stage)}/${name}`;
}

export const separateNamespaces = { network: NamespaceMode.POD, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD };

export async function runPod(client: CriClient, options: PodOptions = {}): Promise<Pod> {
  const config = podConfig(options);
  const { podSandboxId } = await client.runtime.runPodSandbox({ config, runtimeHandler: options.handler ?? '' });
  return { id: podSandboxId, config };
}

export interface ContainerOptions {
  readonly name?: string;
  readonly image?: string;
  readonly command?: readonly string[];
  readonly config?: Partial<ContainerInit>;
}

export const busybox = 'registry.k8s.io/e2e-test-images/busybox:1.29-2';

export function containerConfig({
  name = 'main',
  image = busybox,
  command = [],
  config = {},
}: ContainerOptions): ContainerInit {
  // An init object, as its type says, but the compiler cannot tell it from a whole message there.
  const linux = config.linux as ContainerLinuxInit | undefined;
  return {
    metadata: { name, attempt: 0 },
    image: { image, userSpecifiedImage: image },
    command: [...command],
    logPath: `${name}.log`,
    ...config,
    linux: {
      ...linux,
      securityContext: { namespaceOptions: separateNamespaces, ...linux?.securityContext },
    },
  };
}

/** Pulls the image unless it is there already; returns its id. */
export async function ensureImage(client: CriClient, image: string): Promise<string> {
  const { image: known } = await client.image.imageStatus({ image: { image } });
  if (known !== undefined) return known.id;
  return (await client.image.pullImage({ image: { image } })).imageRef;
}

export async function createContainer(client: CriClient, pod: Pod, options: ContainerOptions = {}): Promise<string> {
  const config = containerConfig(options);
  await ensureImage(client, config.image?.image ?? '');
  const reply = await client.runtime.createContainer({ podSandboxId: pod.id, config, sandboxConfig: pod.config });
  return reply.containerId;
}

export async function runContainer(client: CriClient, pod: Pod, options: ContainerOptions = {}): Promise<string> {
  const containerId = await createContainer(client, pod, options);
  await client.runtime.startContainer({ containerId });
  return containerId;
}

export async function containerStatus(client: CriClient, containerId: string): Promise<ContainerStatus> {
  const { status } = await client.runtime.containerStatus({ containerId });
  if (status === undefined) throw new Error(`read status of container "${containerId}": empty`);
  return status;
}

export async function waitForExit(
  client: CriClient,
  containerId: string,
  timeoutMs = 20_000,
): Promise<ContainerStatus> {
  return waitFor(`exit of container "${containerId}"`, timeoutMs, async () => {
    const status = await containerStatus(client, containerId);
    return status.state === ContainerState.CONTAINER_EXITED ? status : undefined;
  });
}

/** Asks again until the answer is something; the error names what was waited for. */
export async function waitFor<T>(
  what: string,
  timeoutMs: number,
  ask: () => Promise<T | undefined> | T | undefined,
  pauseMs = 30,
): Promise<T> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > end) throw new Error(`wait for ${what}: nothing within ${timeoutMs} ms`);
    await sleep(pauseMs);
  }
}

export interface ExecResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export async function execSync(
  client: CriClient,
  containerId: string,
  cmd: readonly string[],
  timeoutSeconds = 20,
): Promise<ExecResult> {
  const reply = await client.runtime.execSync({ containerId, cmd: [...cmd], timeout: BigInt(timeoutSeconds) });
  return {
    code: reply.exitCode,
    stdout: Buffer.from(reply.stdout).toString(),
    stderr: Buffer.from(reply.stderr).toString(),
  };
}

/** Waits until a program in the pod of this container listens on TCP. */
export async function waitForListener(client: CriClient, containerId: string): Promise<void> {
  const listeners = async () => (await execSync(client, containerId, ['netstat', '-tln'])).stdout;
  await waitFor('a listener', 10_000, async () => (await listeners()).includes('LISTEN') || undefined);
}

/** Containers first, as kubelet does it: StopPodSandbox alone gives them as long as its deadline is away. */
export async function removePod(client: CriClient, podSandboxId: string): Promise<void> {
  const { containers } = await client.runtime.listContainers({ filter: { podSandboxId } });
  await Promise.all(containers.map(({ id }) => client.runtime.stopContainer({ containerId: id, timeout: 0n })));
  await client.runtime.stopPodSandbox({ podSandboxId });
  await client.runtime.removePodSandbox({ podSandboxId });
}

export async function removeAllPods(client: CriClient): Promise<void> {
  const { items } = await client.runtime.listPodSandbox({});
  for (const { id } of items) await removePod(client, id);
}

/** The path that ContainerStatus gives, read as the CRI log format: one entry per line. */
export function parseLog(text: string): { stream: string; tag: string; text: string }[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const match = /^\S+ (stdout|stderr) ([FP]) (.*)$/.exec(line);
      if (match === null) throw new Error(`parse log line "${line}": not in CRI format`);
      return { stream: match[1] ?? '', tag: match[2] ?? '', text: match[3] ?? '' };
    });
}
