import { globSync, readFileSync, statSync } from 'node:fs';
import { hasCode } from '../base/errors.ts';
import type { HostFacts } from '../runtime/spec/input.ts';
import { architecture } from '../sys/arch.ts';
import { readMountInfo } from '../sys/mount.ts';
import { boundingCapabilities, capabilityNames, lowestOomScoreAdj } from '../sys/process.ts';

/** Looks at the kernel and at this process, once at start. */
export function readHostFacts(): HostFacts {
  const cgroupV2 = isThere('/sys/fs/cgroup/cgroup.controllers');
  const controllers = cgroupV2 ? unifiedControllers() : legacyControllers();
  return {
    architecture: architecture.goArch,
    boundingCapabilities: boundingCapabilities(),
    kernelCapabilities: kernelCapabilities(),
    cgroupV2,
    controllers,
    memorySwap: hasMemorySwap(cgroupV2),
    lowestOomScoreAdj: lowestOomScoreAdj(),
    seccomp: /^Seccomp:/m.test(readText('/proc/self/status')),
    apparmor:
      readText('/sys/module/apparmor/parameters/enabled').startsWith('Y') && isThere('/sys/kernel/security/apparmor'),
    selinux: isThere('/sys/fs/selinux/enforce'),
    thermalThrottlePaths: globSync('/sys/devices/system/cpu/cpu*/thermal_throttle').toSorted(),
  };
}

/** All up to /proc/sys/kernel/cap_last_cap. */
function kernelCapabilities(): readonly string[] {
  const last = Number.parseInt(readText('/proc/sys/kernel/cap_last_cap'), 10);
  return Number.isNaN(last) ? capabilityNames : capabilityNames.slice(0, last + 1);
}

function unifiedControllers(): ReadonlySet<string> {
  const names = readText('/sys/fs/cgroup/cgroup.controllers')
    .split(/\s+/)
    .filter((name) => name !== '');
  return new Set(names.map((name) => (name === 'io' ? 'blkio' : name)));
}

/** Only hierarchies that are mounted can be used: on a hybrid host some controllers stay with cgroup2. */
function legacyControllers(): ReadonlySet<string> {
  const mounts = readMountInfo().filter(({ fsType }) => fsType === 'cgroup');
  return new Set(
    mounts.flatMap(({ superOptions }) => superOptions.split(',')).filter((option) => !['rw', 'ro'].includes(option)),
  );
}

function hasMemorySwap(cgroupV2: boolean): boolean {
  if (!cgroupV2) return isThere('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes');
  // the root cgroup has no such file: any child tells
  return globSync('/sys/fs/cgroup/*/memory.swap.max').length > 0;
}

/** A fact about the host, not a question before an act. */
function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** `` when the file does not exist or may not be read. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EACCES', 'EPERM', 'ENOTDIR')) return '';
    throw error;
  }
}
