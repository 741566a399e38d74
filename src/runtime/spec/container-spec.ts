import type { ContainerSpecInput } from './input.ts';
import type { Spec } from './oci.ts';

/** The spec of a container; pure. Throws CrioError `invalid` for requests that cannot be met. */
export function buildContainerSpec(input: ContainerSpecInput): Spec {
  return { ociVersion: input.ociVersion };
}
