import type { Process } from './spec/oci.ts';

/**
 * The process of an exec in a container that is bound to `cpus` (`2-3,8`): with `first` it starts on the lowest of them
 * (`exec_cpu_affinity` of its handler; `execCPUAffinity` of the runtime specification 1.2.1; runtimes that do not know it ignore it), away from the container's
 * own threads on the others.
 */
export function withAffinity(process: Process, affinity: string | undefined, cpus: string | undefined): Process {
  const first = affinity === 'first' ? firstCpu(cpus ?? '') : undefined;
  return first === undefined ? process : { ...process, execCPUAffinity: { initial: String(first) } };
}

/** Lowest number of a CPU list, cpuset(7); undefined when there is none. */
function firstCpu(list: string): number | undefined {
  const starts = [...list.matchAll(/(?:^|,)\s*(\d+)/g)].map((match) => Number(match[1]));
  return starts.length === 0 ? undefined : Math.min(...starts);
}
