import type { Linux, LinuxResources, Mount, Process, Spec } from './oci.ts';

/** A spec while the steps work on it: the parts that every spec has are there from the start. */
export interface Draft extends Spec {
  process: Process & { args: string[]; env: string[] };
  root: { path: string; readonly?: boolean };
  mounts: Mount[];
  annotations: Record<string, string>;
  linux: Linux & {
    resources: LinuxResources & { devices: NonNullable<LinuxResources['devices']> };
    namespaces: { type: string; path?: string }[];
  };
}

/** Adds a mount at the end; an earlier one with the same destination goes. */
export function putMount(draft: Draft, mount: Mount): void {
  removeMount(draft, mount.destination);
  draft.mounts.push(mount);
}

export function removeMount(draft: Draft, destination: string): void {
  draft.mounts = draft.mounts.filter((mount) => mount.destination !== destination);
}

export function hasMount(draft: Draft, destination: string): boolean {
  return draft.mounts.some((mount) => mount.destination === destination);
}

/** A bind mount of a path of the host. */
export function bind(source: string, destination: string, ...options: string[]): Mount {
  return { destination, type: 'bind', source, options };
}
