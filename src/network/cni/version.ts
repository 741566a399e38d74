/** Versions of the CNI specification this runtime speaks, oldest first. */
export const knownVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export const currentVersion = '1.1.0';

/** An empty version means the first one. */
export function effectiveVersion(version: string): string {
  return version === '' ? '0.1.0' : version;
}

export function isKnownVersion(version: string): boolean {
  return (knownVersions as readonly string[]).includes(effectiveVersion(version));
}

/** Negative when `a` is older than `b`. Parts that are no numbers count as 0. */
export function compareVersions(a: string, b: string): number {
  const left = numbersOf(effectiveVersion(a));
  const right = numbersOf(effectiveVersion(b));
  for (let index = 0; index < 3; index += 1) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

export function isAtLeast(version: string, wanted: string): boolean {
  return compareVersions(version, wanted) >= 0;
}

/**
 * The version a list is run with: the highest of `cniVersions` and `cniVersion` that is not above ours; without
 * `cniVersions` the one it names, whatever it is.
 */
export function chooseVersion(cniVersion: string, cniVersions: readonly string[]): string {
  if (cniVersions.length === 0) return cniVersion;
  const usable = [...cniVersions, ...(cniVersion === '' ? [] : [cniVersion])].filter(
    (version) => compareVersions(version, currentVersion) <= 0,
  );
  return usable.sort(compareVersions).at(-1) ?? cniVersion;
}

function numbersOf(version: string): number[] {
  return version.split('.').map((part) => (/^\d+$/.test(part) ? Number(part) : 0));
}
