import type { Call, StageListener } from '../base/call.ts';
import type { Clock } from '../base/clock.ts';
import type { KeyedLock } from '../base/keyed-lock.ts';
import type { Logger } from '../base/log.ts';
import type { Operations } from '../base/operations.ts';
import type { Cgroups } from '../cgroup/cgroups.ts';
import type { Config } from '../config/config.ts';
import type { Image, Images } from '../image/images.ts';
import type { Pod } from '../pod/pod.ts';
import type { ContainerRuntime } from '../runtime/runtime.ts';
import type { Store } from '../storage/store.ts';
import type { Container } from './container.ts';
import type { PrepareContainer } from './prepare.ts';
import type { Processes } from './processes.ts';
import type { ContainerStore, Entry } from './store.ts';
import { CrioError } from '../base/errors.ts';

export type ContainerEvent = {
  readonly type: 'created' | 'started' | 'stopped' | 'deleted';
  readonly container: Container;
  /** ns since the epoch */
  readonly timeNs: bigint;
};

/** An image that a container is about to use. */
export interface ImageUse {
  readonly imageId: string;
  /** As the user wrote it; `` when the request does not say. */
  readonly userSpecifiedImage: string;
  readonly namespace: string;
}

/** What `main.ts` hands in. */
export interface ContainersDeps {
  /** Read at each call: a reload replaces it. */
  readonly config: () => Config;
  readonly store: Store;
  readonly images: Pick<Images, 'find' | 'damageOf'> & {
    /** Also where an image has the same name. */
    findArtifact(idOrName: string): Promise<Image | undefined>;
  };
  /** By handler name. */
  readonly runtimes: ReadonlyMap<string, ContainerRuntime>;
  readonly cgroups: Cgroups;
  readonly log: Logger;
  readonly clock?: Clock;
  readonly findPod: (idOrPrefix: string) => Pod | undefined;
  /** Throws when the configured signature policy refuses the image for this namespace. */
  readonly verifyImage?: (use: ImageUse) => Promise<void>;
  /** Computes the spec and everything it names; see prepare.ts. */
  readonly prepare: PrepareContainer;
  /** Told of every change of life; must not throw. */
  readonly onEvent?: (event: ContainerEvent) => void;
  /** A container's monitor ended while the container goes on. */
  readonly onMonitorLost?: (container: Container) => void;
  /** A container is gone, with its pod or alone; nothing more is told of it. */
  readonly onRemoved?: (container: Container) => void;
  /** A request came for a container that is still being created; at which stage that is. Must not throw. */
  readonly onStalled?: (stage: string) => void;
  /** Told of the stages of work that goes on without its caller: create, start, remove. */
  readonly onStage?: StageListener | undefined;
  /** Processes of the host; tests hand in their own. */
  readonly processes?: Processes;
  readonly writeState?: (container: Container) => Promise<void>;
}

/** What every function of this feature works with. */
export interface Context extends Required<Omit<ContainersDeps, 'onStage'>> {
  readonly index: ContainerStore;
  /** A Call for work that goes on when its caller has gone, or that has none. */
  readonly ownCall: (name: string) => Call;
  /** The container's cgroup below each hierarchy; undefined when its spec names none. */
  readonly cgroupPath: (container: Container) => string | undefined;
  /** True when the init process runs on this kernel, so that signals and its end need no runtime. */
  readonly isHostProcess: (container: Container) => boolean;
  /** One holder per container id: start, update and the like never overlap. Stop does not take it. */
  readonly locks: KeyedLock;
  readonly creations: Operations<Entry>;
}

/** Runtime of a handler name; `` is the default one. */
export function runtimeFor(context: Context, handler: string): ContainerRuntime {
  const name = handler === '' ? context.config().runtime.defaultRuntime : handler;
  const runtime = context.runtimes.get(name);
  if (runtime !== undefined) return runtime;
  const known = [...context.runtimes.keys()].join(', ');
  throw new CrioError('unknown', `failed to find runtime handler ${name} from runtime list ${known}`);
}

/** `<namespace>/<pod>/<container>`, as CRI-O's log lines have it. */
export function describe(container: Container): string {
  const label = (name: string) => container.labels.get(name) ?? container.spec.annotations?.[name] ?? '';
  return `${label('io.kubernetes.pod.namespace')}/${label('io.kubernetes.pod.name')}/${container.metadata.name}`;
}
