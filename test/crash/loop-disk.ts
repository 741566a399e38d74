import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { run } from '../fixtures/process.ts';

/** A file system in a file, on a loop device, mounted. Taken down when disposed, also after a test that failed. */
export interface LoopDisk extends Disposable {
  readonly file: string;
  readonly mountPoint: string;
  readonly device: string;
}

export interface LoopOptions {
  readonly file: string;
  readonly mountPoint: string;
  /** Bytes; the file is made anew, sparse. Undefined for a file that has a file system. */
  readonly size?: number;
  /** Program and arguments that make the file system; the file is added. */
  readonly mkfs?: readonly string[];
  readonly options?: string;
}

/** The device is let go with its last user (autoclear), so that a killed test leaves none when its namespace ends. */
export function mountLoop(options: LoopOptions): LoopDisk {
  const { file, mountPoint, size, mkfs = [] } = options;
  if (size !== undefined) {
    writeFileSync(file, '');
    truncateSync(file, size);
    const [program = '', ...args] = mkfs;
    run(program, [...args, file]);
  }
  mkdirSync(mountPoint, { recursive: true });
  run('mount', [
    '-o',
    ['loop', ...(options.options === undefined ? [] : [options.options])].join(','),
    file,
    mountPoint,
  ]);
  const device = run('findmnt', ['-n', '-o', 'SOURCE', '--mountpoint', mountPoint]).trim().split('\n').at(-1) ?? '';
  return {
    file,
    mountPoint,
    device,
    // Lazily: a test that failed may have left something in it.
    [Symbol.dispose]: () => void run('umount', ['-l', mountPoint]),
  };
}

export const ext4 = ['mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0'];
export const xfs = ['mkfs.xfs', '-q', '-f', '-m', 'reflink=1'];

export function removeFile(file: string): void {
  rmSync(file, { force: true });
}

/** What is put on it is taken down when the test has ended, the last thing first. */
export function takenDownAfter(t: TestContext): AsyncDisposableStack {
  const stack = new AsyncDisposableStack();
  t.after(() => stack.disposeAsync());
  return stack;
}
