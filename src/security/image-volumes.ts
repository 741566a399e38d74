import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { CrioError, hasCode, wrap } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { ContainerMount } from '../container/config.ts';
import type { Mount } from '../runtime/spec/oci.ts';
import { O_DIRECTORY, O_PATH } from '../sys/arch.ts';
import { AT_EMPTY_PATH, openInRoot, statAt } from '../sys/file.ts';
import { planArtifactBinds } from './artifact-volumes.ts';
import type { MountableImage } from './image-mounts.ts';
import { MNT_DETACH, MS_BIND, mount, UMOUNT_NOFOLLOW, umountAsync } from '../sys/mount.ts';

export interface ImageVolumesRequest {
  /** Those of the container that name an image. */
  readonly mounts: readonly ContainerMount[];
  readonly bundle: string;
  /** `<dirname of container_exits_dir>/image-volumes` */
  readonly emptyDirectory: string;
  /** Mounts an image read-only, once for all its users, or finds the files of an artifact; undefined when it is not there. */
  readonly mountImage: (reference: string) => Promise<MountableImage | undefined>;
  readonly log: Logger;
  readonly undo: AsyncDisposableStack;
}

export interface ImageVolumes {
  readonly mounts: readonly Mount[];
  /** For status, by container path of the request: the image is its id, and an artifact has one for each file. */
  readonly volumes: ReadonlyMap<string, readonly ContainerMount[]>;
}

interface MountedVolume {
  readonly mounts: readonly Mount[];
  readonly volumes: readonly ContainerMount[];
}

/** Mounts of images into a container. Every error begins with `ImageVolumeMountFailed: `, which kubelet shows. */
export async function mountImageVolumes(request: ImageVolumesRequest): Promise<ImageVolumes> {
  const mounts: Mount[] = [];
  const volumes = new Map<string, readonly ContainerMount[]>();
  for (const wanted of request.mounts) {
    try {
      const made = await mountOne(wanted, request);
      mounts.push(...made.mounts);
      volumes.set(wanted.containerPath, made.volumes);
    } catch (error) {
      throw new CrioError('unknown', wrap('ImageVolumeMountFailed', error).message, { cause: error });
    }
  }
  return { mounts, volumes };
}

async function mountOne(wanted: ContainerMount, request: ImageVolumesRequest): Promise<MountedVolume> {
  const image = wanted.image ?? '';
  // A name may be another image's by now.
  const found = await request.mountImage(wanted.imageId ?? image);
  if (found === undefined) throw new CrioError('not-found', `image "${image}" does not exist locally`);
  return 'files' in found ? bindArtifact(found, wanted, request) : mountLayers(found, wanted, request);
}

async function mountLayers(
  { id, path }: { readonly id: string; readonly path: string },
  wanted: ContainerMount,
  request: ImageVolumesRequest,
): Promise<MountedVolume> {
  const lower = wanted.imageSubPath === '' ? path : await bindSubPath(path, wanted, request);
  await requireEmpty(request.emptyDirectory);
  const destination = wanted.containerPath;
  // two lower layers make overlay read-only by itself; the second one is empty
  const options = [`lowerdir=${lower}:${request.emptyDirectory}`];
  return {
    mounts: [{ destination, type: 'overlay', source: 'overlay', options }],
    volumes: [{ ...wanted, image: id }],
  };
}

/** One read-only bind per file, and one volume in the status for each. */
function bindArtifact(
  { id, files, unnamed }: Extract<MountableImage, { files: unknown }>,
  wanted: ContainerMount,
  { log }: ImageVolumesRequest,
): MountedVolume {
  const image = wanted.image ?? '';
  for (const digest of unnamed)
    log.warn(`Skipping blob ${digest} of OCI artifact "${image}": no annotation names a file below the mount point`);
  const binds = planArtifactBinds(files, { image, containerPath: wanted.containerPath, subPath: wanted.imageSubPath });
  return {
    mounts: binds.map(({ source, destination }) => ({ destination, type: 'bind', source, options: ['bind', 'ro'] })),
    volumes: binds.map(({ source, destination }) => ({
      ...wanted,
      containerPath: destination,
      hostPath: source,
      readonly: true,
      image: id,
    })),
  };
}

/** Opened inside the image, so that no link leads out, and bound by descriptor. Works for files and directories. */
async function bindSubPath(
  imagePath: string,
  wanted: ContainerMount,
  { bundle, undo }: ImageVolumesRequest,
): Promise<string> {
  const root = openSync(imagePath, O_PATH | O_DIRECTORY);
  try {
    const fd = openSubPath(root, wanted);
    try {
      const target = `${bundle}/subpath${randomBytes(16).toString('hex')}`;
      await makeTarget(fd, target);
      mount(`/proc/self/fd/${fd}`, target, '', MS_BIND);
      undo.defer(() => umountAsync(target, MNT_DETACH | UMOUNT_NOFOLLOW));
      return target;
    } finally {
      closeSync(fd);
    }
  } finally {
    closeSync(root);
  }
}

function openSubPath(root: number, { image, imageSubPath }: ContainerMount): number {
  try {
    return openInRoot(root, imageSubPath, O_PATH);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) throw error;
    throw new CrioError('not-found', `sub path "${imageSubPath}" does not exist in image volume "${image ?? ''}"`);
  }
}

async function makeTarget(fd: number, target: string): Promise<void> {
  const { mode } = statAt(fd, '', AT_EMPTY_PATH);
  const isDirectory = (mode & constants.S_IFMT) === constants.S_IFDIR;
  if (isDirectory) await mkdir(target, { mode: 0o700 });
  else await writeFile(target, '', { flag: 'wx', mode: 0o600 });
}

/** What lies in it would appear in every image volume. */
async function requireEmpty(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  if ((await readdir(directory)).length === 0) return;
  throw new CrioError('failed-precondition', `use "${directory}" as empty layer: it is not empty`);
}
