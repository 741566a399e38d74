import type { IncomingMessage } from 'node:http';
import { request, type RequestOptions } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';

/** The node, as the kubelet is told. */
export const nodeName = 'node1';

/** Of the kubelet's own server, whose certificate it has signed itself. */
export const apiUrl = 'https://127.0.0.1:10250';

/** The parts of core/v1's Pod that the tests read. */
export interface PodObject {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly uid: string };
  readonly status: {
    readonly phase: string;
    readonly podIP?: string;
    readonly hostIP?: string;
    readonly qosClass?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly initContainerStatuses?: readonly ContainerObject[];
    readonly containerStatuses?: readonly ContainerObject[];
  };
}

export interface ContainerObject {
  readonly name: string;
  /** `cri-o://ID` */
  readonly containerID?: string;
  readonly ready: boolean;
  readonly started?: boolean;
  readonly restartCount: number;
  readonly imageID: string;
  readonly state: StateObject;
  readonly lastState: StateObject;
}

export interface StateObject {
  readonly running?: { readonly startedAt: string };
  readonly waiting?: { readonly reason: string; readonly message?: string };
  readonly terminated?: {
    readonly reason: string;
    readonly exitCode: number;
    readonly message?: string;
    readonly startedAt: string;
    readonly finishedAt: string;
  };
}

/** An answer with its body still to come. */
export function open(path: string, options: RequestOptions = {}): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request(`${apiUrl}${path}`, { rejectUnauthorized: false, agent: false, ...options }, resolve)
      .once('error', reject)
      .end();
  });
}

/** The body of an answer of status 200. */
export async function get(path: string): Promise<string> {
  const response = await open(path);
  const parts: Buffer[] = [];
  for await (const part of response) parts.push(part as Buffer); // no encoding is set
  const body = Buffer.concat(parts).toString();
  if (response.statusCode !== 200) throw new Error(`get "${path}": ${response.statusCode ?? 0}: ${body}`);
  return body;
}

export async function listPods(): Promise<readonly PodObject[]> {
  // The kubelet's own type; the tests that read it fail on anything else.
  return (JSON.parse(await get('/pods')) as { items: readonly PodObject[] | null }).items ?? [];
}

/** Waits until the pod of this name, without the node's, satisfies the claim; the error shows what it was instead. */
export async function waitForPod(
  name: string,
  claim: (pod: PodObject) => boolean,
  timeoutMs = 150_000,
): Promise<PodObject> {
  for (const end = Date.now() + timeoutMs; ;) {
    const pod = (await listPodsSeldom()).find(({ metadata }) => metadata.name === fullName(name));
    // Before its first status a pod has no containers to ask for.
    if (pod?.status.containerStatuses !== undefined && claim(pod)) return pod;
    if (Date.now() > end) throw new Error(`wait for pod "${name}": ${JSON.stringify(pod?.status, undefined, 1)}`);
    await sleep(pollMs);
  }
}

/** A static pod carries the name of its node. */
export function fullName(pod: string): string {
  return `${pod}-${nodeName}`;
}

const pollMs = 200;
let listing: { readonly atMs: number; readonly pods: Promise<readonly PodObject[]> } | undefined;

/** One request for all tests that wait at the same time. */
function listPodsSeldom(): Promise<readonly PodObject[]> {
  if (listing === undefined || Date.now() - listing.atMs >= pollMs) listing = { atMs: Date.now(), pods: listPods() };
  return listing.pods;
}

export function isReady({ status }: PodObject): boolean {
  return status.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True') ?? false;
}

/** The status of a container or init container. */
export function containerOf({ metadata, status }: PodObject, name: string): ContainerObject {
  const all = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  const found = all.find((each) => each.name === name);
  if (found === undefined) throw new Error(`find container "${name}" of pod "${metadata.name}": not there`);
  return found;
}

export function idOf(pod: PodObject, container: string): string {
  return (containerOf(pod, container).containerID ?? '').replace('cri-o://', '');
}
