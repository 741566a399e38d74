import { CrioError } from '../base/errors.ts';
import type { PodId } from '../base/ids.ts';
import type { Container } from './container.ts';
import type { StopProgress } from './stop.ts';

/** A container with what the daemon holds about it while it lives; `container` alone is what others see. */
export interface Entry {
  readonly container: Container;
  /** False while nobody has taken the result of its creation: lists and look-ups leave it out. */
  isVisible: boolean;
  /** Resolves when the end of the container is recorded. */
  readonly ended: PromiseWithResolvers<void>;
  /** The work after the end (unmount, save), done once. */
  cleanUp: Promise<void> | undefined;
  /** Its part that needs only the process to be gone. */
  released: Promise<void> | undefined;
  stop: StopProgress | undefined;
  /** From the KILL phase on no exec may start. */
  isBeingKilled: boolean;
  removal: Promise<void> | undefined;
  /** Monotonic; undefined when it was not this daemon that started it. */
  startedMs: number | undefined;
  /** The last write of state.json that was asked for. */
  saved: Promise<void>;
  /** Ends everything that waits for this container's processes. */
  readonly gone: AbortController;
}

/** Reason of every abort here; without one each abort makes an exception with a stack, 0.2 ms. */
export const noLongerWaitedFor = new CrioError('canceled', 'no longer waited for');

export function newEntry(container: Container): Entry {
  const ended = Promise.withResolvers<void>();
  if (container.state.status === 'stopped') ended.resolve();
  return {
    container,
    isVisible: false,
    ended,
    cleanUp: undefined,
    released: undefined,
    stop: undefined,
    isBeingKilled: false,
    removal: undefined,
    startedMs: undefined,
    saved: Promise.resolve(),
    gone: new AbortController(),
  };
}

/** All containers in memory, by id, by name and by pod. Nothing here waits or does I/O. */
export class ContainerStore {
  readonly #byId = new Map<string, Entry>();
  readonly #byName = new Map<string, Entry>();
  readonly #byPod = new Map<PodId, Set<Entry>>();
  readonly #announced = new Map<string, Container>();
  #newestFirst: readonly Container[] | undefined;

  /** What is about to be added; its cgroup may be there already, and who watches cgroups asks at once. */
  announce(container: Container): void {
    this.#announced.set(container.id, container);
  }

  /** Undoes `announce`; adding does too. */
  withdraw(id: string): void {
    this.#announced.delete(id);
  }

  add(entry: Entry): void {
    const { id, name, podId } = entry.container;
    if (this.#byId.has(id)) throw new CrioError('internal', `add container "${id}": it is there already`);
    this.#byId.set(id, entry);
    this.#announced.delete(id);
    this.#byName.set(name, entry);
    const siblings = this.#byPod.get(podId) ?? new Set();
    this.#byPod.set(podId, siblings.add(entry));
    this.#newestFirst = undefined;
  }

  /** From now on others see it. */
  show(entry: Entry): void {
    entry.isVisible = true;
    this.#newestFirst = undefined;
  }

  remove(entry: Entry): void {
    const { id, name, podId } = entry.container;
    if (this.#byId.get(id) !== entry) return;
    this.#byId.delete(id);
    if (this.#byName.get(name) === entry) this.#byName.delete(name);
    const siblings = this.#byPod.get(podId);
    siblings?.delete(entry);
    if (siblings?.size === 0) this.#byPod.delete(podId);
    this.#newestFirst = undefined;
  }

  /** By full id, visible or not. */
  get(id: string): Entry | undefined {
    return this.#byId.get(id);
  }

  /** By full id, from its announcement on. */
  known(id: string): Container | undefined {
    return this.#byId.get(id)?.container ?? this.#announced.get(id);
  }

  getByName(name: string): Entry | undefined {
    return this.#byName.get(name);
  }

  /** Those of a pod, visible or not. */
  ofPod(podId: PodId): Entry[] {
    return [...(this.#byPod.get(podId) ?? [])];
  }

  /** Visible ones of a pod. */
  ofPodNewestFirst(podId: PodId): readonly Container[] {
    const visible = this.ofPod(podId).filter((entry) => entry.isVisible);
    return visible.map((entry) => entry.container).sort(newestFirst);
  }

  all(): Iterable<Entry> {
    return this.#byId.values();
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Visible one by id or unique prefix; undefined when there is none or the prefix fits several. */
  find(idOrPrefix: string): Entry | undefined {
    const found = this.lookUp(idOrPrefix);
    return found === 'ambiguous' ? undefined : found;
  }

  lookUp(idOrPrefix: string): Entry | 'ambiguous' | undefined {
    const exact = this.#byId.get(idOrPrefix);
    if (exact !== undefined) return exact.isVisible ? exact : undefined;
    if (idOrPrefix === '') return undefined;
    let found: Entry | undefined;
    for (const [id, entry] of this.#byId) {
      if (!entry.isVisible || !id.startsWith(idOrPrefix)) continue;
      if (found !== undefined) return 'ambiguous';
      found = entry;
    }
    return found;
  }

  /** As `find`, or CRI-O's error; clients look at the code NotFound. */
  require(idOrPrefix: string): Entry {
    if (idOrPrefix === '') throw new CrioError('not-found', 'container ID should not be empty');
    const entry = this.find(idOrPrefix);
    if (entry === undefined) throw notFound(idOrPrefix);
    return entry;
  }

  /** Visible ones, newest first. */
  list(): readonly Container[] {
    this.#newestFirst ??= [...this.#byId.values()]
      .filter((entry) => entry.isVisible)
      .map((entry) => entry.container)
      .sort(newestFirst);
    return this.#newestFirst;
  }
}

export function notFound(idOrPrefix: string): CrioError {
  return new CrioError(
    'not-found',
    `could not find container "${idOrPrefix}": container with ID starting with ${idOrPrefix} not found: ID does not exist`,
  );
}

function newestFirst(a: Container, b: Container): number {
  if (a.createdAtNs === b.createdAtNs) return a.id < b.id ? -1 : 1;
  return a.createdAtNs > b.createdAtNs ? -1 : 1;
}
