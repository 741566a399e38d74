import { arch } from 'node:process';

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}

const goArchitecture: ReadonlyMap<string, string> = new Map([
  ['x64', 'amd64'],
  ['arm64', 'arm64'],
]);

/** Variants this machine can run, best first; the empty one stands for the architecture's base. */
const variants: ReadonlyMap<string, readonly string[]> = new Map([
  ['amd64', ['', 'v1']],
  ['arm64', ['v8', '']],
]);

export const hostPlatform: Platform = { os: 'linux', architecture: goArchitecture.get(arch) ?? arch, variant: '' };

/** The entry this machine runs best, by the order of the list among equals; undefined when there is none. */
export function choosePlatform<T extends { readonly platform: Platform | undefined }>(
  entries: readonly T[],
  host: Platform = hostPlatform,
): T | undefined {
  for (const variant of variants.get(host.architecture) ?? ['']) {
    const found = entries.find(
      ({ platform }) =>
        platform !== undefined &&
        platform.os === host.os &&
        platform.architecture === host.architecture &&
        platform.variant === variant,
    );
    if (found !== undefined) return found;
  }
  return undefined;
}

/** `linux/arm64/v8` */
export function formatPlatform(platform: Platform): string {
  return [platform.os, platform.architecture, platform.variant].filter((part) => part !== '').join('/');
}
