import type { Call } from '../base/call.ts';
import type { Digest, ImageId } from '../base/ids.ts';

/** The image feature as pods, containers and the CRI image service see it. */
export interface Images {
  /** Newest state of the store; served from memory. */
  list(): Promise<readonly Image[]>;
  /** By full id, unique id prefix, or name (short names resolved as configured); undefined when there is none. */
  find(idOrName: string): Promise<Image | undefined>;
  /** What is wrong with an image that is not found because it was found damaged; undefined for any other. */
  damageOf?(idOrName: string): Promise<string | undefined>;
  /** Pulls; concurrent pulls of the same thing join. Returns the image. */
  pull(call: Call, options: PullOptions): Promise<Image>;
  /** As CRI's RemoveImage: an id removes all names, a name untags and deletes when it was the last. Unknown is success. */
  remove(call: Call, idOrName: string): Promise<void>;
  usage(): Promise<ImageUsage>;
}

export interface ImageUsage {
  /** Stands for the file system that takes new images. */
  readonly mountPoint: string;
  /** Of image layers there */
  readonly usedBytes: number;
  readonly inodesUsed: number;
  /** Of those in the graph root beside an image store, from before it was set. */
  readonly inGraphRoot: { readonly usedBytes: number; readonly inodesUsed: number };
  readonly timestampNs: bigint;
}

export interface PullOptions {
  readonly reference: string;
  readonly credentials: Credentials | undefined;
  /** The only auth file to read, in the place of those configured. */
  readonly authFile?: string | undefined;
  /** Kubernetes namespace of the pod, for namespaced policy and credentials. */
  readonly namespace: string;
  readonly cgroupParent: string;
}

/** Never logged. */
export interface Credentials {
  readonly username: string;
  readonly password: string;
  readonly identityToken: string;
  readonly registryToken: string;
  /** Registry the credentials are for; empty means any. */
  readonly serverAddress: string;
}

export interface Image {
  readonly id: ImageId;
  /** `repo:tag` names, sorted */
  readonly repoTags: readonly string[];
  /** Every known repository with every known manifest digest, sorted */
  readonly repoDigests: readonly string[];
  readonly digest: Digest | undefined;
  /** Sum of layer sizes (uncompressed) and config, bytes */
  readonly sizeBytes: number;
  readonly pinned: boolean;
  readonly topLayer: string | undefined;
  readonly config: ImageConfig;
  /** Manifest annotations */
  readonly annotations: ReadonlyMap<string, string>;
  /** Set for an OCI artifact: it is listed and can be mounted, but nothing can run from it. */
  readonly artifact?: Artifact;
}

export interface Artifact {
  readonly artifactType: string;
  readonly blobs: readonly ArtifactBlob[];
}

export interface ArtifactBlob {
  readonly digest: Digest;
  /** bytes */
  readonly sizeBytes: number;
  /** The file on this node that holds it. */
  readonly path: string;
  /** Where it belongs below a mount point: its title or file path annotation, checked to stay below; undefined for none. */
  readonly title: string | undefined;
  readonly annotations: ReadonlyMap<string, string>;
}

/** The part of an OCI or Docker image config that matters for running; validated and copied, never trusted. */
export interface ImageConfig {
  readonly user: string;
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDir: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly stopSignal: string;
  readonly volumes: readonly string[];
  readonly architecture: string;
  readonly os: string;
  /** The whole document, for ImageStatus verbose. */
  readonly document: unknown;
}
