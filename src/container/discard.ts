import type { Call } from '../base/call.ts';
import { resolveCgroupsPath } from '../cgroup/path.ts';
import { decodeSpec } from '../runtime/spec/spec-json.ts';
import { runtimeFor, type Context } from './context.ts';
import { findMonitor } from './monitor.ts';
import { readNonEmpty } from './read-file.ts';
import { removeLeftoverFiles } from './remove.ts';

const sigkill = 9;

/**
 * Ends and deletes what an interrupted creation or removal left on disk, of a container that is not known in memory.
 * Without a handler all runtimes are asked: one that does not know the container has nothing to do.
 */
export async function discardContainer(
  context: Context,
  call: Call,
  id: string,
  handler: string | undefined,
): Promise<void> {
  const { containers } = context.store;
  // First, so that it makes nothing more: the runtime that it is still waiting for ends with it.
  const monitor = await findMonitor(context.processes, { id, bundle: containers.runDirectory(id) });
  if (monitor !== undefined) context.processes.signal(monitor, sigkill);
  const runtimes = handler === undefined ? [...context.runtimes.values()] : [runtimeFor(context, handler)];
  for (const runtime of runtimes) await runtime.delete(call, id);
  await removeCgroup(context, `${containers.directory(id)}/config.json`);
  await containers.delete(id);
  await removeLeftoverFiles(context, id);
}

/** What the runtime had started before it knew of the container itself. */
async function removeCgroup({ cgroups, log }: Context, specFile: string): Promise<void> {
  const path = cgroupOf(await readNonEmpty(specFile));
  if (path === undefined || !cgroups.exists(path)) return;
  await cgroups.killAll(path);
  await cgroups.removeCgroup(path).catch((error: unknown) => log.warn('remove what is left of a container', error));
}

/** The file may be damaged: that is why the container is not known. */
function cgroupOf(text: string | undefined): string | undefined {
  try {
    const path = text === undefined ? undefined : decodeSpec(text).linux?.cgroupsPath;
    return path === undefined ? undefined : resolveCgroupsPath(path);
  } catch {
    return undefined;
  }
}
