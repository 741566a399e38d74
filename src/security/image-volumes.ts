import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { CrioError, hasCode, wrap } from '../base/errors.ts';
import type { ContainerMount } from '../container/config.ts';
import type { Mount } from '../runtime/spec/oci.ts';
import { O_DIRECTORY, O_PATH } from '../sys/arch.ts';
import { AT_EMPTY_PATH, openInRoot, statAt } from '../sys/file.ts';
import { MNT_DETACH, MS_BIND, mount, UMOUNT_NOFOLLOW, umountAsync } from '../sys/mount.ts';

export interface ImageVolumesRequest {
  /** Those of the container that name an image. */
  readonly mounts: readonly ContainerMount[];
  readonly bundle: string;
  /** `<dirname of container_exits_dir>/image-volumes` */
  readonly emptyDirectory: string;
  /** Mounts an image read-only, once for all its users; undefined when it is not there. */
  readonly mountImage: (reference: string) => Promise<{ readonly id: string; readonly path: string } | undefined>;
  readonly undo: AsyncDisposableStack;
}

export interface ImageVolumes {
  readonly mounts: readonly Mount[];
  /** For status: the image is its id. */
  readonly volumes: readonly ContainerMount[];
}

/** Mounts of images into a container. Every error begins with `ImageVolumeMountFailed: `, which kubelet shows. */
export async function mountImageVolumes(request: ImageVolumesRequest): Promise<ImageVolumes> {
  const mounts: Mount[] = [];
  const volumes: ContainerMount[] = [];
  for (const wanted of request.mounts) {
    try {
      const { id, mount: made } = await mountImageVolume(wanted, request);
      mounts.push(made);
      volumes.push({ ...wanted, image: id });
    } catch (error) {
      throw new CrioError('unknown', wrap('ImageVolumeMountFailed', error).message, { cause: error });
    }
  }
  return { mounts, volumes };
}

async function mountImageVolume(
  wanted: ContainerMount,
  request: ImageVolumesRequest,
): Promise<{ id: string; mount: Mount }> {
  const image = wanted.image ?? '';
  const found = await request.mountImage(image);
  if (found === undefined) throw new CrioError('not-found', `image "${image}" does not exist locally`);
  const lower = wanted.imageSubPath === '' ? found.path : await bindSubPath(found.path, wanted, request);
  await requireEmpty(request.emptyDirectory);
  const destination = wanted.containerPath;
  // two lower layers make overlay read-only by itself; the second one is empty
  const options = [`lowerdir=${lower}:${request.emptyDirectory}`];
  return { id: found.id, mount: { destination, type: 'overlay', source: 'overlay', options } };
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
