import type { Call } from '../base/call.ts';
import type { Clock } from '../base/clock.ts';
import { CrioError } from '../base/errors.ts';
import type { KeyedLock } from '../base/keyed-lock.ts';
import type { Logger } from '../base/log.ts';
import type { Operations } from '../base/operations.ts';
import type { Cgroups } from '../cgroup/cgroups.ts';
import type { Config, RuntimeHandlerConfig } from '../config/config.ts';
import type { Images } from '../image/images.ts';
import type { Network } from '../network/network.ts';
import type { ContainerRuntime } from '../runtime/runtime.ts';
import type { HostFacts, SeccompChoice, SpecSettings } from '../runtime/spec/input.ts';
import type { Store } from '../storage/store.ts';
import type { SecurityProfile } from './config.ts';
import type { PendingPods } from './pending.ts';
import type { Pod } from './pod.ts';
import type { PodStore } from './store.ts';

export interface PodEvent {
  readonly type: 'started' | 'stopped';
  readonly pod: Pod;
  /** ns since the epoch */
  readonly timeNs: bigint;
}

/** What the pod feature needs to know of a container. */
export interface PodContainer {
  readonly id: string;
  readonly isRunning: boolean;
}

export interface PodSeccompRequest {
  readonly profile: SecurityProfile | undefined;
  /** As in Pod.privileged */
  readonly privileged: boolean;
  readonly handler: RuntimeHandlerConfig;
}

/** What `main.ts` hands in. */
export interface PodsDeps {
  /** Read at each call: a reload replaces it. */
  readonly config: () => Config;
  readonly store: Pick<Store, 'containers'>;
  readonly images: Pick<Images, 'find' | 'pull'>;
  /** By handler name. */
  readonly runtimes: ReadonlyMap<string, ContainerRuntime>;
  readonly network: Network;
  readonly cgroups: Cgroups;
  readonly host: HostFacts;
  readonly specSettings: (handler: RuntimeHandlerConfig) => SpecSettings;
  readonly chooseSeccomp: (request: PodSeccompRequest) => SeccompChoice | Promise<SeccompChoice>;
  readonly containersOf: (podId: string) => readonly PodContainer[];
  readonly stopContainer: (call: Call, id: string, timeoutMs: number) => Promise<void>;
  readonly removeContainer: (call: Call, id: string) => Promise<void>;
  /** Told of every change of life; must not throw. */
  readonly onEvent?: (event: PodEvent) => void;
  /** A request came for a pod that is still being created; at which stage that is. Must not throw. */
  readonly onStalled?: (stage: string) => void;
  /** How long the network's plugins took, and the whole set-up. Must not throw. */
  readonly onNetworkSetUp?: (part: 'network_setup_pod' | 'network_setup_overall', durationMs: number) => void;
  /** Ends when the daemon shuts down: waits without an own limit end with it. */
  readonly shutdown?: AbortSignal;
  readonly clock?: Clock;
  readonly log: Logger;
}

/** What every function of this feature works with. */
export interface Context extends Required<PodsDeps> {
  readonly index: PodStore;
  /** One holder per pod id: stop and remove never overlap. */
  readonly locks: KeyedLock;
  /** Running creations by reserved name. */
  readonly creations: Operations<Pod>;
  /** Ids of pods that are being created. */
  readonly creating: Set<string>;
  /** Records of what is being made, for a daemon that is killed in the middle. */
  readonly pending: PendingPods;
}

export interface HandlerOf {
  /** As in the request: `` is the default one. */
  readonly requested: string;
  readonly name: string;
  readonly config: RuntimeHandlerConfig;
  readonly runtime: ContainerRuntime;
}

/** Handler by the name of the request. The text is CRI-O's. */
export function handlerFor(context: Context, requested: string): HandlerOf {
  const { runtime: options } = context.config();
  const name = requested === '' ? options.defaultRuntime : requested;
  const config = options.runtimes.get(name);
  if (config !== undefined) return { requested, name, config, runtime: runtimeOf(context, name) };
  throw unknownHandler(context, name);
}

/** Also of a handler that is no longer configured: what it has made must be taken away. */
export function runtimeOf(context: Context, requested: string): ContainerRuntime {
  const name = requested === '' ? context.config().runtime.defaultRuntime : requested;
  const runtime = context.runtimes.get(name);
  if (runtime === undefined) throw unknownHandler(context, name);
  return runtime;
}

function unknownHandler(context: Context, name: string): CrioError {
  const known = [...context.runtimes.keys()].join(', ');
  return new CrioError('unknown', `failed to find runtime handler ${name} from runtime list ${known}`);
}
