import { mkdirSync } from 'node:fs';
import { hasCode, wrap } from '../base/errors.ts';
import { MS_BIND, mount } from '../sys/mount.ts';
import { pinNamespaces, unpinNamespace, type PinnableNamespace } from '../sys/namespace.ts';
import type { NamespacePlan, PodNamespace } from './namespace-plan.ts';
import { createPinFile, type PinRequest } from './pin-file.ts';
import { pinUserNamespaces } from './user-namespaces.ts';

/**
 * Makes and pins the namespaces of a pod. Without a user namespace all of it happens synchronously on the main thread
 * before the first `await`. On failure nothing is left behind.
 */
export async function pinPodNamespaces(request: PinRequest): Promise<void> {
  const { plan, userNamespace } = request;
  for (const path of plan.paths.values()) makeParent(path);
  try {
    pinHostNamespaces(plan);
    if (userNamespace.uidMap.length === 0) pinOwn(request);
    else await pinUserNamespaces(request);
  } catch (error) {
    unpinPodNamespaces(plan.paths.values());
    throw wrap('pin namespaces', error);
  }
}

/** Takes the pins away; one that is gone is success. */
export function unpinPodNamespaces(paths: Iterable<string>): void {
  for (const path of paths) unpinNamespace(path);
}

function pinOwn({ plan, sysctls, hostname }: PinRequest): void {
  const pins = [...plan.paths].flatMap(([type, path]) =>
    isPinnable(type) && !plan.ofHost.has(type) ? [{ type, path }] : [],
  );
  pinNamespaces({ pins, sysctls: [...sysctls], hostname });
}

function isPinnable(type: PodNamespace): type is PinnableNamespace {
  return type !== 'user';
}

const ownFiles = { network: 'net', ipc: 'ipc', uts: 'uts' } as const;

/** A pod on the host's network joins it by path as well, so that its containers all do the same. */
function pinHostNamespaces(plan: NamespacePlan): void {
  for (const [type, path] of plan.paths) {
    if (!isPinnable(type) || !plan.ofHost.has(type)) continue;
    createPinFile(path);
    mount(`/proc/self/ns/${ownFiles[type]}`, path, 'none', MS_BIND);
  }
}

function makeParent(path: string): void {
  const parent = path.slice(0, path.lastIndexOf('/'));
  try {
    mkdirSync(parent, { mode: 0o755 });
  } catch (error) {
    if (hasCode(error, 'ENOENT')) mkdirSync(parent, { recursive: true, mode: 0o755 });
    else if (!hasCode(error, 'EEXIST')) throw error;
  }
}
