import { messageOf } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { driverNameOf, parseDriverOptions } from './driver-options.ts';

/** Why `openStore` will refuse this driver and these options, one line each; touches nothing. */
export function storeProblems(driver: string, options: readonly string[]): readonly string[] {
  const checks = [
    () => driverNameOf(driver),
    ...options.map((option) => () => parseDriverOptions([option], silentLog)),
  ];
  return checks.flatMap((check) => {
    try {
      check();
      return [];
    } catch (error) {
      return [messageOf(error)];
    }
  });
}
