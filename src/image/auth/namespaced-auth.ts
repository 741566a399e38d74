import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, wrap } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { namespaceFile } from '../namespace-file.ts';
import { repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';

/** Files that a pull is using. */
const inUse = 'in-use';
const inUseName = /^[a-z0-9-]+-[0-9a-f]{64}-[0-9a-f-]{36}\.json$/;

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
  const suffix = `-${createHash('sha256').update(repositoryOf(reference)).digest('hex')}`;
  const from = namespaceFile(dir, namespace, suffix);
  if (from === undefined) return undefined;
  log.debug(() => `Looking for namespaced auth JSON file in: ${from}`);
  const path = join(dir, inUse, `${namespace}${suffix}-${randomUUID()}.json`);
  try {
    await rename(from, path).catch(async (error: unknown) => {
      // ENOENT: the file, or the folder it goes to.
      if (!hasCode(error, 'ENOENT')) throw error;
      await mkdir(join(dir, inUse), { recursive: true, mode: 0o700 });
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

/**
 * Deletes the files of pulls that never ended, because the daemon was killed: secrets for one pull must not stay. To be
 * called before the first pull. Nobody needs it to succeed.
 */
export async function removeUsedAuth(dir: string, log: Logger): Promise<void> {
  if (dir === '') return;
  try {
    for (const name of await readdir(join(dir, inUse))) {
      if (!inUseName.test(name)) continue;
      await rm(join(dir, inUse, name), { force: true });
      log.info(`Removed auth file of a pull that did not end: ${join(dir, inUse, name)}`);
    }
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) log.warn(`Remove auth files in "${join(dir, inUse)}"`, error);
  }
}
