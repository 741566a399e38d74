import type { PodSpecInput } from './input.ts';
import type { Spec } from './oci.ts';

/** The spec of a pod's infra container; pure. */
export function buildPodSpec(input: PodSpecInput): Spec {
  return { ociVersion: input.ociVersion };
}
