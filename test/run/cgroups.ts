import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = '/sys/fs/cgroup';

/** Roots of all hierarchies: one with cgroup v2, several with v1 or hybrid. */
export function hierarchies(): string[] {
  if (existsSync(join(root, 'cgroup.controllers'))) return [root];
  return readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(root, entry.name));
}

/** A cgroup directly below the roots, with all controllers, for what wants to find one. */
export function makeCgroup(name: string): void {
  for (const hierarchy of hierarchies()) {
    const path = join(hierarchy, name);
    // The unified part of a hybrid host has no controller that anybody uses.
    if (hierarchy === root) delegate(hierarchy);
    mkdirSync(path, { recursive: true });
    // With v1 a new cpuset is empty, and takes no process.
    for (const file of ['cpuset.cpus', 'cpuset.mems'].filter((each) => existsSync(join(path, each))))
      writeFileSync(join(path, file), readFileSync(join(hierarchy, file)));
  }
}

function delegate(folder: string): void {
  const all = readFileSync(join(folder, 'cgroup.controllers'), 'utf8').split(/\s+/).filter(Boolean);
  writeFileSync(join(folder, 'cgroup.subtree_control'), all.map((controller) => `+${controller}`).join(' '));
}

/** Every cgroup of every hierarchy, as a path. */
export function listCgroups(): string[] {
  return hierarchies().flatMap((hierarchy) => below(hierarchy));
}

/** Removes the cgroups of a name directly below the roots, with all that is in them; what is busy stays. */
export function removeCgroups(name: string): void {
  for (const hierarchy of hierarchies()) {
    const top = join(hierarchy, name);
    if (!existsSync(top)) continue;
    for (const path of [top, ...below(top)].toReversed()) {
      try {
        rmdirSync(path);
      } catch (error) {
        if (
          !(
            error instanceof Error &&
            'code' in error &&
            (error.code === 'EBUSY' || error.code === 'ENOTEMPTY' || error.code === 'ENOENT')
          )
        )
          throw error;
      }
    }
  }
}

/** Folders below one, parents before children. */
function below(folder: string): string[] {
  let entries;
  try {
    entries = readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []; // ended meanwhile
    throw error;
  }
  return entries
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return [path, ...below(path)];
    });
}
