import { isJsonObject, type JsonObject } from '../base/go-json.ts';
import type { PodPlan } from './plan.ts';

/**
 * The JSON text in a pod's storage record, with CRI-O's keys in its order; members that are empty are left out.
 * storage-format: `containers.json`.
 */
export function storageMetadata(options: {
  plan: Pick<PodPlan, 'id' | 'name' | 'infraName' | 'createdAtNs' | 'privileged' | 'config'>;
  imageName: string;
  imageId: string;
  mountLabel: string;
}): string {
  const { plan, imageName, imageId, mountLabel } = options;
  const { metadata } = plan.config;
  return JSON.stringify({
    'pod-name': plan.name,
    'pod-id': plan.id,
    'image-name': imageName,
    'image-id': imageId,
    name: plan.infraName,
    'metadata-name': metadata.name,
    uid: metadata.uid,
    namespace: metadata.namespace,
    mountlabel: mountLabel === '' ? undefined : mountLabel,
    'created-at': Number(plan.createdAtNs / 1_000_000_000n),
    attempt: metadata.attempt === 0 ? undefined : metadata.attempt,
    pod: true,
    privileged: plan.privileged ? true : undefined,
  });
}

/** What such a text says about a pod; undefined for records of containers and of other tools. */
export interface StoredPod {
  readonly id: string;
  readonly name: string;
  readonly imageName: string;
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly namespace: string;
    readonly attempt: number;
  };
  readonly createdAtNs: bigint;
  readonly privileged: boolean;
}

export function parseStorageMetadata(text: string): StoredPod | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isJsonObject(value) || value['pod'] !== true) return undefined;
  const id = word(value, 'pod-id');
  const name = word(value, 'pod-name');
  if (id === '' || name === '') return undefined;
  return {
    id,
    name,
    imageName: word(value, 'image-name'),
    metadata: {
      name: word(value, 'metadata-name'),
      uid: word(value, 'uid'),
      namespace: word(value, 'namespace'),
      attempt: count(value, 'attempt'),
    },
    createdAtNs: BigInt(count(value, 'created-at')) * 1_000_000_000n,
    privileged: value['privileged'] === true,
  };
}

function word(object: JsonObject, key: string): string {
  const value = object[key];
  return typeof value === 'string' ? value : '';
}

function count(object: JsonObject, key: string): number {
  const value = object[key];
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : 0;
}
