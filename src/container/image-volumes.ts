import type { Mount } from '../runtime/spec/oci.ts';
import type { ContainerMount } from './config.ts';
import type { PrepareRequest } from './prepare.ts';

/** Mounts of images that containers ask for (CRI `Mount.image`). */
export interface ImageVolumes {
  mountAll(request: PrepareRequest): Promise<{
    /** In the order of the request. */
    readonly mounts: readonly Mount[];
    /** The request's mounts with the ids of the images that were mounted. */
    inVolumes(volumes: readonly ContainerMount[]): readonly ContainerMount[];
  }>;
}
