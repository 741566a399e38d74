import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { stageCgroup } from '../run/stage.ts';
import type { PodObject } from './api.ts';

const root = '/sys/fs/cgroup';

export const cgroupVersion = existsSync(join(root, 'cgroup.controllers')) ? 2 : 1;

/** Where the kubelet puts a pod, from the roots of the hierarchies. */
export function podCgroup({ metadata, status }: PodObject): string {
  const folder = status.qosClass === 'Guaranteed' ? '' : `/${(status.qosClass ?? '').toLowerCase()}`;
  return `/${stageCgroup()}/kubepods${folder}/pod${metadata.uid}`;
}

export function cgroupFile(controller: string, cgroup: string, file: string): string {
  return readFileSync(join(root, cgroupVersion === 2 ? '' : controller, cgroup, file), 'utf8');
}

/** Nanoseconds of CPU time. */
export function cpuUsage(cgroup: string): number {
  if (cgroupVersion === 1) return Number(cgroupFile('cpuacct', cgroup, 'cpuacct.usage'));
  return Number(/^usage_usec (\d+)$/m.exec(cgroupFile('cpu', cgroup, 'cpu.stat'))?.[1]) * 1000;
}

/** Bytes in use without inactive file cache, as the kubelet's evictions look at it. */
export function workingSet(cgroup: string): number {
  const usage = Number(cgroupFile('memory', cgroup, cgroupVersion === 2 ? 'memory.current' : 'memory.usage_in_bytes'));
  const key = cgroupVersion === 2 ? 'inactive_file' : 'total_inactive_file';
  return usage - Number(new RegExp(`^${key} (\\d+)$`, 'm').exec(cgroupFile('memory', cgroup, 'memory.stat'))?.[1]);
}
