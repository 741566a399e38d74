/** Hidden from a container whenever it asks for any masking; kubelet's own list may be older. */
const alwaysMasked = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
  '/sys/fs/selinux',
];

/** The request's list with the defaults, sorted; an empty list (procMount Unmasked) stays empty. */
export function chooseMaskedPaths(requested: readonly string[], thermalThrottlePaths: readonly string[]): string[] {
  if (requested.length === 0) return [];
  return [...new Set([...requested, ...alwaysMasked, ...thermalThrottlePaths])].toSorted(byBytes);
}

function byBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
