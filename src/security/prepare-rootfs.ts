import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { CrioError, hasCode } from '../base/errors.ts';
import type { Mount } from '../runtime/spec/oci.ts';
import { symlinkat } from '../sys/file.ts';
import { openDirectoryInRoot, pathInRoot } from './directory-in-root.ts';

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface RootfsRequest {
  readonly rootFd: number;
  /** Absolute path inside the container. */
  readonly cwd: string;
  /** Host ids of root in the container's user namespace. */
  readonly rootOwner: Owner;
}

/** Makes what a program expects in its root file system and the image may lack: its working directory, /etc, mtab. */
export function prepareRootfs({ rootFd, cwd, rootOwner }: RootfsRequest): void {
  makeWorkingDirectory(rootFd, cwd, rootOwner);
  makeMtab(rootFd, rootOwner);
}

function makeWorkingDirectory(rootFd: number, cwd: string, owner: Owner): void {
  const fd = openDirectoryInRoot(rootFd, cwd, { mode: 0o755, owner });
  const real = pathInRoot(rootFd, fd);
  closeSync(fd);
  // what runtimes keep open would become the working directory on the host (CVE-2024-21626)
  if (/^\/proc(\/.*)?\/fd(\/|$)/.test(real))
    throw new CrioError('invalid', `working directory "${cwd}" is a descriptor of a process`);
}

/** By descriptor: an /etc that is a link must not make the link on the host (CVE-2024-5154). */
function makeMtab(rootFd: number, owner: Owner): void {
  const etc = openDirectoryInRoot(rootFd, '/etc', { mode: 0o755, owner });
  try {
    symlinkat('/proc/mounts', etc, 'mtab');
  } catch (error) {
    if (!hasCode(error, 'EEXIST', 'EROFS')) throw error;
  } finally {
    closeSync(etc);
  }
}

export interface VolumesRequest {
  readonly rootFd: number;
  readonly bundle: string;
  /** VOLUME paths of the image. */
  readonly volumes: readonly string[];
  /** Paths the request mounts something on: an image's volume gives way. */
  readonly mounted: ReadonlySet<string>;
  readonly mode: 'mkdir' | 'bind' | 'ignore';
  /** Host ids of the process user. */
  readonly owner: Owner;
}

/**
 * Makes the directories for an image's VOLUMEs; with `bind` they lie in the bundle and are mounted, but for those in `/dev`,
 * `/proc` and `/sys`.
 */
export async function prepareVolumes(request: VolumesRequest): Promise<Mount[]> {
  const { rootFd, bundle, mounted, mode, owner } = request;
  if (mode === 'ignore') return [];
  const mounts: Mount[] = [];
  for (const volume of request.volumes) {
    const path = volume.startsWith('/') ? volume : `/${volume}`;
    if (mounted.has(path)) continue;
    const fd = openDirectoryInRoot(rootFd, path, { mode: 0o755, owner });
    try {
      if (mode === 'bind' && !isSystem(pathInRoot(rootFd, fd))) mounts.push(await bindVolume(bundle, path));
    } finally {
      closeSync(fd);
    }
  }
  return mounts;
}

/**
 * Runtimes find devices, labels and what to hide there: runc refuses a volume in its place, crun mounts it (CVE-2019-16884,
 * CVE-2025-31133, CVE-2025-52565, CVE-2025-52881).
 */
function isSystem(path: string): boolean {
  return /^\/(?:dev|proc|sys)(?:\/|$)/.test(path);
}

async function bindVolume(bundle: string, destination: string): Promise<Mount> {
  const source = `${bundle}/mounts/${randomBytes(32).toString('hex')}`;
  await mkdir(source, { recursive: true, mode: 0o755 });
  return { destination, type: 'bind', source, options: ['private', 'bind', 'rw'] };
}
