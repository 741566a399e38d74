import { readdir } from 'node:fs/promises';
import { wrap } from '../../base/errors.ts';
import { isId } from '../../base/ids.ts';
import { isThere } from '../../base/is-there.ts';
import type { LayerAbove } from '../layers-above.ts';
import { nameForAbove, repairShortLinks, shortLinkOf } from './layer-dirs.ts';

/** The folders that hold layers: our own, of one root or two, and those of additional stores, which are only read. */
export class Homes {
  readonly own: readonly string[];
  readonly all: readonly string[];

  constructor(roots: { graphRoot: string; imageRoot: string; additionalRoots: readonly string[] }) {
    const homeOf = (root: string) => `${root}/overlay`;
    this.own = [...new Set([roots.graphRoot, roots.imageRoot].map(homeOf))];
    this.all = [...new Set([...this.own, ...roots.additionalRoots.map(homeOf)])];
  }

  /** Where a layer lies; for reading alone. */
  of(id: string): Promise<string | undefined> {
    return firstWith(this.all, id);
  }

  /** Where a layer of our own index lies. One of an additional store may have the same id: it is not ours. */
  ownOf(id: string): Promise<string | undefined> {
    return firstWith(this.own, id);
  }

  /** The short name that layers above one know it by, unless another layer has it. */
  async freeName(above: readonly LayerAbove[]): Promise<string | undefined> {
    const name = above.length === 0 ? undefined : await nameForAbove(this.own, above);
    if (name === undefined) return undefined;
    for (const home of this.own) if ((await readdir(`${home}/l`)).includes(name)) return undefined;
    return name;
  }

  /** Those of the short names that no layer has. One of our own may have lost its symlink, or all but that. */
  async namesOfNobody(links: readonly string[]): Promise<readonly string[]> {
    const found = await Promise.all(links.map((link) => this.#findLower(link)));
    const missing = links.filter((_, position) => found[position] === undefined);
    if (missing.length === 0) return [];
    const known = new Set<string>();
    for (const home of this.own) {
      for (const name of await readdir(`${home}/l`)) known.add(`l/${name}`);
      for (const id of (await readdir(home)).filter(isId)) {
        const link = await shortLinkOf(home, id);
        // It may be this one's.
        if (link === undefined) return [];
        known.add(`l/${link}`);
      }
    }
    return missing.filter((link) => !known.has(link));
  }

  /** Full paths of the short names: in each home in turn, the first hit wins. Missing ones are made again once. */
  async lowerFolders(links: readonly string[]): Promise<string[]> {
    const found = await Promise.all(links.map((link) => this.#findLower(link)));
    if (!found.includes(undefined)) return found.filter((path) => path !== undefined);
    for (const home of this.own) await repairShortLinks(home, (await readdir(home)).filter(isId));
    const again = await Promise.all(links.map((link) => this.#findLower(link)));
    const missing = links.filter((_, position) => again[position] === undefined);
    if (missing.length > 0)
      throw wrap('find lower layers', new Error(`${missing.join(', ')} do not exist`), 'failed-precondition');
    return again.filter((path) => path !== undefined);
  }

  async #findLower(link: string): Promise<string | undefined> {
    const home = await firstWith(this.all, link);
    return home === undefined ? undefined : `${home}/${link}`;
  }
}

async function firstWith(homes: readonly string[], name: string): Promise<string | undefined> {
  for (const home of homes) if (await isThere(`${home}/${name}`)) return home;
  return undefined;
}
