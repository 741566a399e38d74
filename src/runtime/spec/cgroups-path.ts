import { posix } from 'node:path';
import { CrioError } from '../../base/errors.ts';

export interface CgroupPlace {
  readonly manager: 'cgroupfs' | 'systemd';
  /** As kubelet gives it, `` when none. */
  readonly parent: string;
  readonly id: string;
}

/** `linux.cgroupsPath` of a container: `/<parent>/crio-<id>`, or `<slice>:crio:<id>` with systemd. */
export function cgroupsPath({ manager, parent, id }: CgroupPlace): string {
  if (manager === 'systemd') return `${systemdSlice(parent)}:crio:${id}`;
  return posix.join('/', cgroupfsParent(parent), `crio-${id}`);
}

function systemdSlice(parent: string): string {
  if (parent === '') return 'system.slice';
  const slice = posix.basename(parent);
  if (slice.endsWith('.slice')) return slice;
  // CRI-O's text
  throw new CrioError(
    'invalid',
    `cri-o configured with systemd cgroup manager, but did not receive slice as parent: ${parent}`,
  );
}

function cgroupfsParent(parent: string): string {
  if (parent === '') return '/crio';
  if (!posix.basename(parent).endsWith('.slice')) return parent;
  // CRI-O's text
  throw new CrioError(
    'invalid',
    `cri-o configured with cgroupfs cgroup manager, but received systemd slice as parent: ${parent}`,
  );
}
