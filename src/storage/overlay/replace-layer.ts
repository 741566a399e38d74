import { randomBytes } from 'node:crypto';
import { mkdir, rename, symlink } from 'node:fs/promises';
import { hasCode } from '../../base/errors.ts';
import { RENAME_EXCHANGE, renameat2 } from '../../sys/file.ts';
import { copyTree } from '../copy-tree.ts';
import { atomicWrite } from '../index/atomic-write.ts';
import type { LayerAbove } from '../layers-above.ts';
import { createTempDir } from '../temp-dirs.ts';
import { WriteBack } from '../write-back.ts';
import { nameForAbove, newShortLink, shortLinkOf, shortLinks } from './layer-dirs.ts';
import type { ParentFacts } from './layer-dirs.ts';

/**
 * Puts new content into the folder of a damaged layer, in one step where there is content, and makes again what else
 * belongs to the folder. Layers above name this one by its short name, so it keeps the one it has. Content that a mounted
 * container may still use stays beside the new one until the layer is deleted; other goes where the new one was.
 */
export async function replaceLayerDirs(options: {
  readonly home: string;
  /** Where layers above may lie. */
  readonly homes: readonly string[];
  readonly id: string;
  readonly parent: ParentFacts | undefined;
  readonly content: string;
  readonly above: readonly LayerAbove[];
  readonly keepsOld: boolean;
}): Promise<void> {
  const { home, id, parent, content } = options;
  const folder = `${home}/${id}`;
  await mkdir(`${folder}/work`, { recursive: true, mode: 0o700 });
  await mkdir(`${folder}/${parent === undefined ? 'empty' : 'merged'}`, { recursive: true, mode: 0o700 });
  const link = await shortNameOf(options);
  await atomicWrite(`${folder}/link`, Buffer.from(link), { durable: true, mode: 0o644 });
  if (parent !== undefined)
    await atomicWrite(`${folder}/lower`, Buffer.from(parent.lower), { durable: true, mode: 0o644 });
  try {
    await symlink(`../${id}/diff`, `${home}/l/${link}`);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
  await exchange(content, `${folder}/diff`);
  if (options.keepsOld) await keep(content, `${folder}/crio-damaged-${randomBytes(6).toString('hex')}`);
}

/** A copy of unpacked content that can be moved below `home`, which may be another disk; durable. */
export async function copyNear(home: string, content: string): Promise<AsyncDisposable & { readonly content: string }> {
  await using undo = new AsyncDisposableStack();
  const folder = undo.use(await createTempDir(`${home}/tempdirs`));
  await using writeBack = new WriteBack([folder.path]);
  const mark = writeBack.mark();
  const copy = folder.entry('addition');
  await copyTree(content, copy);
  await writeBack.sync([mark]);
  const owned = undo.move();
  return { content: copy, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function exchange(content: string, diff: string): Promise<void> {
  try {
    renameat2(undefined, content, undefined, diff, RENAME_EXCHANGE);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
    await rename(content, diff);
  }
}

async function keep(old: string, path: string): Promise<void> {
  try {
    await rename(old, path);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

async function shortNameOf({ home, homes, id, above }: Parameters<typeof replaceLayerDirs>[0]): Promise<string> {
  const own = await shortLinkOf(home, id);
  if (own !== undefined) return own;
  for (const [link, owner] of await shortLinks(home)) if (owner === id) return link;
  return (await nameForAbove(homes, above)) ?? newShortLink();
}
