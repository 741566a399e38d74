import type { ProcessRef } from '../runtime/runtime.ts';
import type { Spec } from '../runtime/spec/oci.ts';
import { replaceFile, replaceFileNow } from './files.ts';
import type { Pod } from './pod.ts';
import { formatPodState, type InfraState } from './state-file.ts';

/** Folder of state.json and the marker files: the run directory when no infra container runs. */
export function stateDirectory(pod: Pick<Pod, 'infraDropped' | 'directory' | 'runDirectory'>): string {
  return pod.infraDropped ? pod.runDirectory : pod.directory;
}

/** Writes state.json of a pod that has just been made. */
export async function saveState(
  pod: Pod,
  options: { monitor: ProcessRef | undefined; spec: Spec; startedAtNs: bigint },
): Promise<void> {
  const { monitor, spec, startedAtNs } = options;
  const infra: InfraState | undefined = pod.infraDropped
    ? undefined
    : {
        id: pod.id,
        bundle: pod.runDirectory,
        ociVersion: spec.ociVersion,
        annotations: spec.annotations ?? {},
        init: pod.infra,
        monitor,
        exitCode: undefined,
      };
  const text = formatPodState({ infra, isStopped: false, createdAtNs: pod.createdAtNs, startedAtNs, finishedAtNs: 0n });
  const path = `${stateDirectory(pod)}/state.json`;
  if (pod.infraDropped) replaceFileNow(path, text);
  else await replaceFile(path, text);
}
