import type { Pod } from './pod.ts';

/** Pods in memory. A pod that nobody has taken the result of yet is hidden: only its name is reserved. */
export class PodStore {
  readonly #byId = new Map<string, Pod>();
  readonly #idByName = new Map<string, string>();
  readonly #hidden = new Set<string>();
  readonly #announced = new Map<string, Pod>();
  #sorted: readonly Pod[] | undefined;

  /** What is about to be added; its cgroup may be there already, and who watches cgroups asks at once. */
  announce(pod: Pod): void {
    this.#announced.set(pod.id, pod);
  }

  /** Undoes `announce`; adding does too. */
  withdraw(id: string): void {
    this.#announced.delete(id);
  }

  /** Adds a pod, hidden until `publish`. */
  add(pod: Pod): void {
    this.#byId.set(pod.id, pod);
    this.#announced.delete(pod.id);
    this.#idByName.set(pod.name, pod.id);
    this.#hidden.add(pod.id);
  }

  publish(pod: Pod): void {
    if (!this.#byId.has(pod.id)) return;
    this.#hidden.delete(pod.id);
    this.#sorted = undefined;
  }

  remove(pod: Pod): void {
    this.#byId.delete(pod.id);
    this.#hidden.delete(pod.id);
    if (this.#idByName.get(pod.name) === pod.id) this.#idByName.delete(pod.name);
    this.#sorted = undefined;
  }

  /** Newest first; without hidden ones. The same array until something changes. */
  list(): readonly Pod[] {
    this.#sorted ??= [...this.#byId.values()]
      .filter((pod) => !this.#hidden.has(pod.id))
      .sort((a, b) => (a.createdAtNs < b.createdAtNs ? 1 : a.createdAtNs > b.createdAtNs ? -1 : 0));
    return this.#sorted;
  }

  /** By id or unique prefix; undefined for an ambiguous one and for hidden pods. */
  find(idOrPrefix: string): Pod | undefined {
    if (idOrPrefix === '') return undefined;
    const exact = this.#byId.get(idOrPrefix);
    if (exact !== undefined) return this.#hidden.has(exact.id) ? undefined : exact;
    // A whole id that is not there is no prefix of another one.
    if (idOrPrefix.length >= 64) return undefined;
    const matches = this.list().filter((pod) => pod.id.startsWith(idOrPrefix));
    return matches.length === 1 ? matches[0] : undefined;
  }

  /** Also hidden ones. */
  findByName(name: string): { pod: Pod; isHidden: boolean } | undefined {
    const id = this.#idByName.get(name);
    const pod = id === undefined ? undefined : this.#byId.get(id);
    return pod === undefined ? undefined : { pod, isHidden: this.#hidden.has(pod.id) };
  }

  isHidden(id: string): boolean {
    return this.#hidden.has(id);
  }

  /** By full id, from its announcement on. */
  known(id: string): Pod | undefined {
    return this.#byId.get(id) ?? this.#announced.get(id);
  }

  /** Hidden ones too. */
  get(id: string): Pod | undefined {
    return this.#byId.get(id);
  }
}
