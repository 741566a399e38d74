import { closeSync } from 'node:fs';
import { env } from 'node:process';
import { hasCode } from '../base/errors.ts';
import { duplicate } from './descriptor.ts';
import { getNoFileLimit, setNoFileLimit } from './process.ts';
import type { ResourceLimit } from './process.ts';

/**
 * Node raises the soft NOFILE limit to the hard one at start, and children would inherit that: programs that close every
 * possible descriptor, or use select(2), then get slow or break. So children get the soft limit the daemon was started
 * with. `bin/crio` hands it on in this variable; without it, the kernel's traditional 1024.
 */
const startLimitVariable = 'CRIO_NOFILE_SOFT';
const traditionalSoftLimit = 1024n;
/** Room for the descriptors that other threads open while the limit is lowered. */
const margin = 256n;

interface Limits {
  readonly own: ResourceLimit;
  readonly children: ResourceLimit;
}

let limits: Limits | undefined;

function readLimits(): Limits {
  const own = getNoFileLimit();
  const text = env[startLimitVariable];
  const wanted = text !== undefined && /^\d{1,15}$/.test(text) ? BigInt(text) : traditionalSoftLimit;
  const soft = wanted < own.hard ? wanted : own.hard;
  return { own, children: { soft, hard: own.hard } };
}

/** The soft limit that children get. */
export function childNoFileSoftLimit(): bigint {
  limits ??= readLimits();
  return limits.children.soft;
}

let mustLimitAfterwards = false;

/**
 * Runs `start`, which makes a child, with this process's limit lowered: the child inherits it from its first instruction.
 * With so many descriptors open that another thread could fail to open one meanwhile, `limitNewChild` does it instead.
 */
export function withChildLimits<T>(start: () => T): T {
  limits ??= readLimits();
  const { own, children } = limits;
  mustLimitAfterwards = false;
  if (own.soft === children.soft) return start();
  if (BigInt(lowestFreeDescriptor()) + margin > children.soft) {
    mustLimitAfterwards = true;
    return start();
  }
  setNoFileLimit(children);
  try {
    return start();
  } finally {
    setNoFileLimit(own);
  }
}

/** prlimit(2) on a child that was started with the daemon's own limit; it has hardly begun to run. */
export function limitNewChild(pid: number): void {
  if (!mustLimitAfterwards || limits === undefined) return;
  mustLimitAfterwards = false;
  try {
    setNoFileLimit(limits.children, pid);
  } catch (error) {
    if (!hasCode(error, 'ESRCH', 'EPERM')) throw error;
  }
}

function lowestFreeDescriptor(): number {
  const fd = duplicate(0);
  closeSync(fd);
  return fd;
}
