import { randomBytes } from 'node:crypto';
import { mkdir, unlink, writeFile } from 'node:fs/promises';
import { CrioError } from '../base/errors.ts';
import { NamespaceMode } from '../pod/config.ts';
import type { Pod } from '../pod/pod.ts';
import type { ProcessRef } from '../runtime/runtime.ts';
import { MNT_DETACH, MS_BIND, mount, UMOUNT_NOFOLLOW, umount } from '../sys/mount.ts';
import { isAlive } from '../sys/process.ts';

export interface PidNamespaceRequest {
  readonly pod: Pick<Pod, 'id' | 'infra'>;
  readonly mode: NamespaceMode;
  readonly targetId: string;
  readonly findTarget: (containerId: string) => ProcessRef | undefined;
  readonly namespacesDir: string;
  readonly undo: AsyncDisposableStack;
}

/** The PID namespace to join; undefined for a new one or the host's. A target's is pinned: its init may end first. */
export async function choosePidNamespace(request: PidNamespaceRequest): Promise<string | undefined> {
  const { pod, mode } = request;
  if (mode === NamespaceMode.target) return pinTarget(request);
  if (mode !== NamespaceMode.pod) return undefined;
  if (pod.infra === undefined) {
    throw new CrioError('failed-precondition', `join PID namespace of pod ${pod.id}: it has no infra container`);
  }
  // a pid of an infra container that has ended may be any process of the host by now
  if (!isAlive(pod.infra)) {
    throw new CrioError('failed-precondition', `join PID namespace of pod ${pod.id}: its infra container has ended`);
  }
  return `/proc/${pod.infra.pid}/ns/pid`;
}

async function pinTarget(request: PidNamespaceRequest): Promise<string> {
  const target = request.findTarget(request.targetId);
  if (target === undefined || !isAlive(target)) {
    throw new CrioError(
      'failed-precondition',
      `join PID namespace of container "${request.targetId}": it is not running`,
    );
  }
  const directory = `${request.namespacesDir}/pidns`;
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const path = `${directory}/pid${randomBytes(16).toString('hex')}`;
  await writeFile(path, '', { flag: 'wx', mode: 0o444 });
  request.undo.defer(() => unlink(path));
  mount(`/proc/${target.pid}/ns/pid`, path, '', MS_BIND);
  request.undo.defer(() => umount(path, MNT_DETACH | UMOUNT_NOFOLLOW));
  // the pid may have become another process between the look and the mount
  if (!isAlive(target))
    throw new CrioError('failed-precondition', `join PID namespace of container "${request.targetId}": it has ended`);
  return path;
}
