import { CrioError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { splitMountOptions } from './overlay/mount-plan.ts';

export interface DriverOptions {
  readonly mountOptions: readonly string[];
  readonly additionalRoots: readonly string[];
  readonly disableVolatile: boolean;
}

/** Known options that ask for nothing this driver would do otherwise, whatever their value is. */
const ignored = new Set([
  'skip_mount_home',
  'override_kernel_check',
  'ignore_chown_errors',
  'additionallayerstore',
  'sync',
]);

/** `overlay2` is an old name, and empty the default. */
export function driverNameOf(name: string): 'overlay' | 'vfs' {
  if (name === '' || name === 'overlay' || name === 'overlay2') return 'overlay';
  if (name === 'vfs') return 'vfs';
  throw new CrioError('invalid', `storage driver "${name}": only overlay and vfs are supported`);
}

/** Reads `overlay.<key>=<value>` strings (also `overlay2.` or `.`); an unknown key is an error, as elsewhere. */
export function parseDriverOptions(options: readonly string[], log: Logger): DriverOptions {
  const parsed = { mountOptions: [] as readonly string[], additionalRoots: [] as string[], disableVolatile: false };
  for (const option of options) {
    const match = /^(?:overlay2?|vfs)?\.?([a-z_-]+)=(.*)$/s.exec(option);
    const [, key = '', value = ''] = match ?? [];
    if (key === 'mountopt') parsed.mountOptions = splitMountOptions(value);
    else if (key === 'imagestore' || key === 'additionalimagestore')
      parsed.additionalRoots.push(...value.split(',').filter(Boolean));
    else if (key === 'disable-volatile') parsed.disableVolatile = value === 'true';
    else if (ignored.has(key)) log.debug(`storage option "${option}" has no effect`);
    else if (isOff(key, value)) continue;
    else throw new CrioError('invalid', `storage option "${option}" is not supported`);
  }
  return parsed;
}

/** Features that this driver does not have are fine as long as they are off. */
function isOff(key: string, value: string): boolean {
  if (key === 'use_composefs') return value === 'false';
  return ['mount_program', 'force_mask', 'size', 'inodes'].includes(key) && value === '';
}
