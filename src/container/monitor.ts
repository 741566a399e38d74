import type { ProcessRef } from '../runtime/runtime.ts';
import type { Processes } from './processes.ts';
import { readNonEmpty } from './read-file.ts';

/** The monitor of a container whose state was never written, by its pid file; undefined when it has ended. */
export async function findMonitor(
  processes: Processes,
  { bundle, id }: { readonly bundle: string; readonly id: string },
): Promise<ProcessRef | undefined> {
  const text = await readNonEmpty(`${bundle}/conmon-pidfile`);
  const pid = Number(text);
  if (text === undefined || !Number.isInteger(pid) || pid <= 1) return undefined;
  const found = processes.identify(pid);
  // The pid may be another's by now; a monitor has the container's id among its arguments.
  const args = (await readNonEmpty(`/proc/${pid}/cmdline`))?.split('\0') ?? [];
  return found !== undefined && args.includes(id) ? found : undefined;
}
