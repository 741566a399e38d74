import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { loosePackages } from './loose-packages.ts';

/**
 * `make install`: copies what runs, and nothing that only builds or tests, to `$DESTDIR$PREFIX/lib/crio-ts`, with the
 * command as `bin/crio` and the units in `lib/systemd/system`, where systemd prefers them to those of a package.
 */

// A node that unpacks DESTDIR must not get folders that only their owner may enter.
process.umask(0o022);

const root = new URL('..', import.meta.url).pathname;
const prefix = process.env['PREFIX'] || '/usr/local';
const destination = `${process.env['DESTDIR'] ?? ''}${prefix}`;
const folder = join(destination, 'lib/crio-ts');
/** Becomes the folder when it is complete: a daemon that runs from there starts its worker threads from these files. */
const unfinished = `${folder}.unfinished`;
/** The folder that was there before, until the new one is in place. */
const old = `${folder}.old`;

interface Lockfile {
  readonly packages: Readonly<
    Record<string, { readonly dependencies?: object; readonly optionalDependencies?: object } | undefined>
  >;
}

/** Folders of the packages and of all that they need, as far as they are there: those of other systems are not. */
function packageFolders(names: readonly string[]): readonly string[] {
  const { packages }: Lockfile = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const found = new Set<string>();
  const add = (name: string): void => {
    const path = `node_modules/${name}`;
    if (found.has(path) || !existsSync(join(root, path))) return;
    found.add(path);
    const { dependencies = {}, optionalDependencies = {} } = packages[path] ?? {};
    for (const needed of [...Object.keys(dependencies), ...Object.keys(optionalDependencies)]) add(needed);
  };
  for (const name of names) add(name);
  return [...found];
}

function copy(path: string): void {
  cpSync(join(root, path), join(unfinished, path), { recursive: true });
}

/** 755 for folders and programs, 644 else: a checkout and a build keep the umask they were made with. */
function openToAll(top: string): void {
  for (const entry of readdirSync(top, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) chmodSync(path, 0o755);
    else if (entry.isFile()) chmodSync(path, (statSync(path).mode & 0o100) === 0 ? 0o644 : 0o755);
  }
  chmodSync(top, 0o755);
}

function installUnits(): void {
  const units = join(destination, 'lib/systemd/system');
  mkdirSync(units, { recursive: true });
  for (const name of ['crio.service', 'crio-wipe.service']) {
    const text = readFileSync(join(root, 'contrib/systemd', name), 'utf8');
    writeFileSync(join(units, name), text.replaceAll('/usr/local/', `${prefix}/`), { mode: 0o644 });
  }
}

rmSync(unfinished, { recursive: true, force: true });
// Without the folder, as after a power cut between the two renames, the old one is all there is: it stays for now.
if (existsSync(folder)) rmSync(old, { recursive: true, force: true });
const node = `node_modules/node-linux-${process.arch}/bin/node`;
const bundles = globSync('build/*.mjs', { cwd: root });
for (const path of ['bin/crio', 'LICENSE', ...bundles, node, ...packageFolders(loosePackages)]) copy(path);
chmodSync(join(unfinished, 'bin/crio'), 0o755);
openToAll(unfinished);
if (existsSync(folder)) renameSync(folder, old);
renameSync(unfinished, folder);
rmSync(old, { recursive: true, force: true });
const command = join(destination, 'bin/crio');
mkdirSync(dirname(command), { recursive: true });
rmSync(command, { force: true });
symlinkSync('../lib/crio-ts/bin/crio', command);
installUnits();
// Node keeps what it has compiled, by path: a short run fills the folder that bin/crio names.
process.stdout.write(execFileSync(command, ['--version'], { encoding: 'utf8' }));
openToAll(join(folder, 'build/cache'));
