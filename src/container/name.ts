import { CrioError } from '../base/errors.ts';
import type { PodMetadata } from '../pod/config.ts';

/** `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`: a container's name is built from the request's own pod config. */
export function containerName(
  container: { readonly name: string; readonly attempt: number },
  pod: PodMetadata,
): string {
  if (container.name === '') throw new CrioError('unknown', 'name is empty');
  return `k8s_${container.name}_${pod.name}_${pod.namespace}_${pod.uid}_${container.attempt}`;
}

/** Metadata of the storage record, with CRI-O's keys in its order (storage-format 7). */
export function storageMetadata(options: {
  podName: string;
  podId: string;
  imageName: string;
  imageId: string;
  name: string;
  metadata: { readonly name: string; readonly attempt: number };
  mountLabel: string;
  createdAtNs: bigint;
}): string {
  const { podName, podId, imageName, imageId, name, metadata, mountLabel, createdAtNs } = options;
  return JSON.stringify({
    'pod-name': podName,
    'pod-id': podId,
    'image-name': imageName,
    'image-id': imageId,
    name,
    'metadata-name': metadata.name,
    ...(mountLabel === '' ? {} : { mountlabel: mountLabel }),
    'created-at': Number(createdAtNs / 1_000_000_000n),
    ...(metadata.attempt === 0 ? {} : { attempt: metadata.attempt }),
  });
}
