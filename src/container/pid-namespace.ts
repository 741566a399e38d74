import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { CrioError } from '../base/errors.ts';
import type { Config } from '../config/config.ts';
import { NamespaceMode } from '../pod/config.ts';
import { MNT_DETACH, MS_BIND, mount, UMOUNT_NOFOLLOW, umount } from '../sys/mount.ts';
import type { PrepareRequest } from './prepare.ts';

/** PID namespace that a container joins: the pod's, that of another container; undefined for its own or the node's. */
export function choosePidNamespace(config: Config, request: PrepareRequest): string | undefined {
  const options = request.config.securityContext?.namespaceOptions;
  const mode = options?.pid ?? NamespaceMode.pod;
  if (mode === NamespaceMode.pod) return podNamespace(request);
  if (mode !== NamespaceMode.target) return undefined;
  return pinTarget(config.runtime.namespacesDir, options?.targetId ?? '', request);
}

function podNamespace({ pod }: PrepareRequest): string {
  if (pod.infra !== undefined) return `/proc/${pod.infra.pid}/ns/pid`;
  throw new CrioError(
    'failed-precondition',
    `join PID namespace of pod ${pod.id}: the pod has no infra container, it was not created with a shared PID namespace`,
  );
}

/** Pinned under a name of its own: the target may end, and its pid be another's, before the runtime looks. */
function pinTarget(namespacesDir: string, targetId: string, { findTarget, undo }: PrepareRequest): string {
  const target = findTarget(targetId);
  if (target === undefined) {
    throw new CrioError('failed-precondition', `join PID namespace of container "${targetId}": it is not running`);
  }
  const directory = `${namespacesDir}/pidns`;
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const path = `${directory}/pid${randomBytes(8).toString('hex')}`;
  closeSync(openSync(path, 'wx', 0o444));
  undo.defer(() => rmSync(path, { force: true }));
  mount(`/proc/${target.pid}/ns/pid`, path, 'none', MS_BIND);
  undo.defer(() => umount(path, MNT_DETACH | UMOUNT_NOFOLLOW));
  return path;
}
