import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { O_DIRECTORY, O_PATH } from '../sys/arch.ts';

/** A root file system in a temporary folder, for tests. */
export interface TestRootfs extends Disposable {
  readonly fd: number;
  readonly path: string;
  /** A folder beside it. */
  readonly bundle: string;
}

/** Files by path inside the root file system. */
export function makeRootfs(files: Readonly<Record<string, string>> = {}): TestRootfs {
  const base = mkdtempSync(join(tmpdir(), 'rootfs-'));
  const [path, bundle] = [join(base, 'rootfs'), join(base, 'bundle')];
  for (const directory of [path, bundle]) mkdirSync(directory);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), content, { mode: 0o644 });
  }
  const fd = openSync(path, O_PATH | O_DIRECTORY);
  return {
    fd,
    path,
    bundle,
    [Symbol.dispose]() {
      closeSync(fd);
      rmSync(base, { recursive: true });
    },
  };
}
