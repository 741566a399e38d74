import { matchesPairs } from './labels.ts';
import type { Container, ContainerStatus } from './container.ts';
import type { ContainerStore } from './store.ts';

/** What ListContainers asks for; all that is given must fit. */
export interface ContainerFilter {
  /** Id or unique prefix. */
  readonly id?: string | undefined;
  /** Id or prefix of the pod. */
  readonly podId?: string | undefined;
  readonly statuses?: readonly ContainerStatus[] | undefined;
  readonly labels?: ReadonlyMap<string, string> | undefined;
}

/** Newest first; from memory alone. An unknown or ambiguous id gives an empty list. */
export function listContainers(
  index: ContainerStore,
  filter: ContainerFilter,
  findPodId: (prefix: string) => string | undefined,
): readonly Container[] {
  const candidates = candidatesFor(index, filter, findPodId);
  const { statuses, labels } = filter;
  if (statuses === undefined && labels === undefined) return candidates;
  return candidates.filter(
    (container) =>
      (statuses === undefined || statuses.includes(container.state.status)) &&
      (labels === undefined || matchesPairs(container.labels, labels)),
  );
}

/** With an id, the pod is compared as a plain prefix; alone it must name one pod (both as CRI-O's). */
function candidatesFor(
  index: ContainerStore,
  { id, podId }: ContainerFilter,
  findPodId: (prefix: string) => string | undefined,
): readonly Container[] {
  if (id !== undefined && id !== '') {
    const container = index.find(id)?.container;
    return container !== undefined && container.podId.startsWith(podId ?? '') ? [container] : [];
  }
  if (podId === undefined || podId === '') return index.list();
  const found = findPodId(podId);
  return found === undefined ? [] : index.ofPodNewestFirst(found);
}
