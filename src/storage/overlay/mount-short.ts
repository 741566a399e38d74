import { closeSync, openSync } from 'node:fs';
import { CrioError } from '../../base/errors.ts';
import { mount } from '../../sys/mount.ts';
import { planMount } from './mount-plan.ts';
import type { PlanInput } from './mount-plan.ts';

/** mount(2) takes one page of options. */
export const maxMountData = 4095;

/**
 * Mounts a chain too long for full paths: relative to the driver's home, and if that is still too long by descriptors,
 * relative to /proc/self/fd. The working folder is the process's: it changes for the time of one system call, and
 * nothing else runs meanwhile on this thread; no other thread uses relative paths.
 */
export function mountWithShortPaths(input: PlanInput, target: string, homes: readonly string[]): void {
  const relative = planMount(shorten(input, homes[0] ?? '/'));
  if (Buffer.byteLength(relative.data) < maxMountData) {
    inFolder(homes[0] ?? '/', () => mount('overlay', target, 'overlay', relative.flags, relative.data));
    return;
  }
  using fds = new DisposableStack();
  const lowers = input.lowers.map((lower) => String(fds.adopt(openSync(lower, 'r'), closeSync)));
  const plan = planMount({ ...input, lowers });
  if (Buffer.byteLength(plan.data) >= maxMountData) {
    throw new CrioError('failed-precondition', `mount options of ${input.lowers.length} layers are too long`);
  }
  inFolder('/proc/self/fd', () => mount('overlay', target, 'overlay', plan.flags, plan.data));
}

function shorten(input: PlanInput, home: string): PlanInput {
  const short = (path: string) => (path.startsWith(`${home}/`) ? path.slice(home.length + 1) : path);
  return {
    ...input,
    lowers: input.lowers.map(short),
    upper: input.upper === undefined ? undefined : short(input.upper),
    work: input.work === undefined ? undefined : short(input.work),
  };
}

function inFolder(folder: string, work: () => void): void {
  const before = process.cwd();
  process.chdir(folder);
  try {
    work();
  } finally {
    process.chdir(before);
  }
}
