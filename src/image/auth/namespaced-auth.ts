import { createHash, randomUUID } from 'node:crypto';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, wrap } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';

/**
 * Takes the auth file that a credential provider left for one namespace and repository, for one pull: it is moved
 * aside, so that nobody uses it twice, and deleted by the returned object. Undefined when there is none.
 */
export async function takeNamespacedAuth(
  dir: string,
  namespace: string,
  reference: Reference,
  log: Logger,
): Promise<(AsyncDisposable & { readonly path: string }) | undefined> {
  // A namespace is a DNS label; anything else must not become part of a path.
  if (dir === '' || !/^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/.test(namespace)) return undefined;
  const name = `${namespace}-${createHash('sha256').update(repositoryOf(reference)).digest('hex')}`;
  const from = join(dir, `${name}.json`);
  log.debug(() => `Looking for namespaced auth JSON file in: ${from}`);
  const path = join(dir, 'in-use', `${name}-${randomUUID()}.json`);
  try {
    await rename(from, path).catch(async (error: unknown) => {
      // ENOENT: the file, or the folder it goes to.
      if (!hasCode(error, 'ENOENT')) throw error;
      await mkdir(join(dir, 'in-use'), { recursive: true, mode: 0o700 });
      await rename(from, path);
    });
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw wrap(`take namespaced auth file "${from}"`, error);
  }
  log.info(`Using auth file for namespace ${namespace}: ${path}`);
  return {
    path,
    async [Symbol.asyncDispose]() {
      await rm(path, { force: true });
      log.debug(() => `Removed temp auth file: ${path}`);
    },
  };
}
