import type { Call } from '../base/call.ts';
import { wrap } from '../base/errors.ts';
import { filterAnnotations } from '../runtime/spec/annotation-filter.ts';
import { parseSeccompProfile } from '../runtime/spec/parse-seccomp.ts';
import type { SeccompProfile } from '../runtime/spec/seccomp-profile.ts';

/** Newest name first: it wins. */
const keys = ['seccomp-profile.crio.io', 'seccomp-profile.kubernetes.cri-o.io'] as const;

/** Which artifact holds a container's profile. */
export interface ProfileAnnotation {
  readonly key: string;
  /** Reference of the artifact */
  readonly value: string;
  readonly scope: 'container' | 'pod' | 'image';
}

export interface ProfileAnnotationRequest {
  readonly container: string;
  readonly podAnnotations: ReadonlyMap<string, string>;
  /** Of the image's manifest */
  readonly imageAnnotations: ReadonlyMap<string, string>;
  /** Names that the runtime handler or workload allows */
  readonly allowed: readonly string[];
}

/**
 * The annotation that names a seccomp profile: the pod's for this container, the pod's for all of it, then the image's.
 * Those that are not allowed are as if they were not there.
 */
export function findProfileAnnotation(request: ProfileAnnotationRequest): ProfileAnnotation | undefined {
  const pod = filterAnnotations(request.podAnnotations, request.allowed);
  const image = filterAnnotations(request.imageAnnotations, request.allowed);
  const own = `/${request.container}`;
  const places = [
    { annotations: pod, suffix: own, scope: 'container' },
    { annotations: pod, suffix: '/POD', scope: 'pod' },
    { annotations: image, suffix: '', scope: 'image' },
    { annotations: image, suffix: own, scope: 'image' },
    { annotations: image, suffix: '/POD', scope: 'image' },
  ] as const;
  for (const { annotations, suffix, scope } of places) {
    for (const name of keys) {
      const value = annotations.get(`${name}${suffix}`);
      if (value !== undefined) return { key: `${name}${suffix}`, value, scope };
    }
  }
  return undefined;
}

/** Pulls an artifact and returns the text of its first blob. */
export type FetchProfile = (call: Call, reference: string, namespace: string) => Promise<string>;

/** The profile that an annotation names; undefined when none does. What cannot be pulled or read is an error. */
export async function seccompFromArtifact(
  request: ProfileAnnotationRequest & { readonly namespace: string; readonly call: Call; readonly fetch: FetchProfile },
): Promise<SeccompProfile | undefined> {
  const { call } = request;
  const found = findProfileAnnotation(request);
  if (found === undefined) return undefined;
  call.log.info(`Found ${found.scope} specific seccomp profile annotation: ${found.key}=${found.value}`);
  try {
    const text = await request.fetch(call, found.value, request.namespace);
    call.log.info(`Retrieved OCI artifact seccomp profile of len: ${text.length}`);
    return parseSeccompProfile(text);
  } catch (error) {
    throw wrap(`load seccomp profile of annotation ${found.key} from OCI artifact "${found.value}"`, error);
  }
}
