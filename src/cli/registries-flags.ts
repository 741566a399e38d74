import { stringFlag } from '../config/flags.ts';
import type { FlagValues } from '../config/flags.ts';

/** These two are flags only: no file has them. */
export function registriesFlags(flags: FlagValues): { file?: string; dropInDir?: string } {
  const file = stringFlag(flags, 'registries-conf');
  const dropInDir = stringFlag(flags, 'registries-conf-dir');
  return { ...(file === undefined ? {} : { file }), ...(dropInDir === undefined ? {} : { dropInDir }) };
}
