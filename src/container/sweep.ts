import { readdir, readlink, unlink } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Call } from '../base/call.ts';
import { hasCode } from '../base/errors.ts';
import { isId } from '../base/ids.ts';
import type { ContainerRuntime } from '../runtime/runtime.ts';
import type { Context } from './context.ts';

/**
 * Removes what a removal that a crash cut short left outside of the storage: containers that only the runtime still
 * knows, exit files, attach links. Only what belongs to this daemon's run root is touched.
 */
export async function sweepLeftovers(context: Context, call: Call, known: ReadonlySet<string>): Promise<void> {
  const { containerExitsDir, containerAttachSocketDir } = context.config().runtime;
  for (const [handler, runtime] of context.runtimes) await sweepRuntime(context, call, { handler, runtime, known });
  for (const id of await unknownIds(context, containerExitsDir, known))
    await removeFile(context, `${containerExitsDir}/${id}`);
  for (const id of await unknownIds(context, containerAttachSocketDir, known)) {
    const path = `${containerAttachSocketDir}/${id}`;
    if (isBelow(context, await linkTarget(path))) await removeFile(context, path);
  }
}

interface SweptRuntime {
  readonly handler: string;
  readonly runtime: ContainerRuntime;
  readonly known: ReadonlySet<string>;
}

async function sweepRuntime(context: Context, call: Call, { handler, runtime, known }: SweptRuntime): Promise<void> {
  const settings = context.config().runtime.runtimes.get(handler);
  if (settings === undefined) return;
  const root = settings.runtimeRoot === '' ? `/run/${basename(settings.runtimePath)}` : settings.runtimeRoot;
  for (const id of await unknownIds(context, root, known)) {
    try {
      // Others may use the same root: the bundle tells whose it is.
      if (!isBelow(context, (await runtime.state(call, id))?.bundle)) continue;
      await runtime.delete(call, id);
      context.log.info(`Removed what was left of container ${id} in runtime ${handler}`);
    } catch (error) {
      context.log.warn(`remove what was left of container ${id} in runtime ${handler}`, error);
    }
  }
}

function isBelow({ store }: Context, path: string | undefined): boolean {
  return path?.startsWith(`${store.runRoot}/`) === true;
}

async function unknownIds({ log }: Context, directory: string, known: ReadonlySet<string>): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => isId(name) && !known.has(name));
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) log.warn(`look for leftovers in "${directory}"`, error);
    return [];
  }
}

async function linkTarget(path: string): Promise<string | undefined> {
  try {
    return await readlink(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EINVAL')) return undefined;
    throw error;
  }
}

async function removeFile({ log }: Context, path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) log.warn(`remove "${path}"`, error);
  }
}
