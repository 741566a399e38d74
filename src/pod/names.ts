import { CrioError } from '../base/errors.ts';
import type { PodConfig, PodMetadata } from './config.ts';

/** Key and value together; kubelet's own limit is lower. */
const maxLabelBytes = 4096;

/** The texts are CRI-O's. */
export function checkMetadata(metadata: PodMetadata): void {
  if (metadata.name === '') throw new CrioError('unknown', 'metadata.Name should not be empty');
  if (metadata.namespace === '') throw new CrioError('unknown', 'cannot generate pod name without namespace');
  if (metadata.uid === '') throw new CrioError('unknown', 'cannot generate pod name without uid in metadata');
}

/** `k8s_<pod>_<namespace>_<uid>_<attempt>`: the name that is reserved, and the second one of the storage record. */
export function podName({ name, namespace, uid, attempt }: PodMetadata): string {
  return ['k8s', name, namespace, uid, attempt].join('_');
}

/** Name of the infra container. */
export function infraName({ name, namespace, uid, attempt }: PodMetadata): string {
  return ['k8s', 'POD', name, namespace, uid, attempt].join('_');
}

/** The request's labels and those that CRI-O adds. Throws when one is too large. */
export function podLabels(config: PodConfig): Map<string, string> {
  const { name, namespace, uid } = config.metadata;
  const labels = new Map(config.labels);
  checkLabelSizes(labels);
  if (!labels.has('io.kubernetes.pod.name')) labels.set('io.kubernetes.pod.name', name);
  if (!labels.has('io.kubernetes.pod.namespace')) labels.set('io.kubernetes.pod.namespace', namespace);
  if (!labels.has('io.kubernetes.pod.uid')) labels.set('io.kubernetes.pod.uid', uid);
  labels.set('io.kubernetes.container.name', 'POD');
  return labels;
}

function checkLabelSizes(labels: ReadonlyMap<string, string>): void {
  for (const [key, value] of labels) {
    if (Buffer.byteLength(key) + Buffer.byteLength(value) <= maxLabelBytes) continue;
    throw new CrioError(
      'unknown',
      `label key and value greater than maximum size (${maxLabelBytes} bytes), key: ${key.slice(0, 10)}`,
    );
  }
}
