import { closeSync } from 'node:fs';
import { copyFile, realpath } from 'node:fs/promises';
import { hasCode } from '../base/errors.ts';
import type { Mount } from '../runtime/spec/oci.ts';
import { symlinkat, unlinkat } from '../sys/file.ts';
import { openDirectoryInRoot } from './directory-in-root.ts';
import { openRegularInRoot } from './read-in-root.ts';

export interface TimezoneRequest {
  readonly rootFd: number;
  readonly bundle: string;
  /** IANA name, `local` in any case, or `` */
  readonly timezone: string;
  readonly rootOwner: { readonly uid: number; readonly gid: number };
}

const zones = '/usr/share/zoneinfo';

/** Gives the container its zone: a link when the image has the zone file, else a copy of the host's to mount. */
export async function setTimezone(request: TimezoneRequest): Promise<Mount[]> {
  const { rootFd, bundle, timezone } = request;
  if (timezone === '') return [];
  const hostFile = timezone.toLowerCase() === 'local' ? await realpath('/etc/localtime') : `${zones}/${timezone}`;
  using inImage = hostFile.startsWith(`${zones}/`) ? openRegularInRoot(rootFd, hostFile) : undefined;
  if (inImage !== undefined) {
    linkLocaltime(request, hostFile);
    return [];
  }
  const copy = `${bundle}/localtime`;
  await copyFile(hostFile, copy);
  return [
    { destination: '/etc/localtime', type: 'bind', source: copy, options: ['bind', 'nodev', 'nosuid', 'noexec'] },
  ];
}

function linkLocaltime({ rootFd, rootOwner }: TimezoneRequest, target: string): void {
  const etc = openDirectoryInRoot(rootFd, '/etc', { mode: 0o755, owner: rootOwner });
  try {
    removeIfThere(etc, 'localtime');
    symlinkat(target, etc, 'localtime');
  } finally {
    closeSync(etc);
  }
}

function removeIfThere(directory: number, name: string): void {
  try {
    unlinkat(directory, name);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}
