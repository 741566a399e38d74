import type { IdMapping } from '../pod/config.ts';

/** The host's id of a container's user or group id; unmapped ids stay what they are. */
export function hostId(id: number, map: readonly IdMapping[]): number {
  const range = map.find(({ containerId, size }) => id >= containerId && id < containerId + size);
  return range === undefined ? id : range.hostId + id - range.containerId;
}
