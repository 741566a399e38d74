import { CrioError } from '../../base/errors.ts';
import type { Process } from './oci.ts';

/** RLIM_INFINITY as the kernel has it, getrlimit(2). */
const unlimited = 0xffffffffffffffffn;
const names = new Set(
  'core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(' '),
);

type Rlimit = NonNullable<Process['rlimits']>[number];

/** One `name=soft[:hard]` of `default_ulimits`; -1 is no limit. Throws CrioError `invalid`. */
export function parseUlimit(text: string): Rlimit {
  const match = /^([a-z]+)=(-1|\d+)(?::(-1|\d+))?$/.exec(text);
  const [, name = '', softText = '', hardText = softText] = match ?? [];
  if (match === null || !names.has(name))
    throw new CrioError('invalid', `parse ulimit "${text}": name=soft[:hard] expected`);
  const soft = limit(softText);
  const hard = limit(hardText);
  if (soft > hard) throw new CrioError('invalid', `parse ulimit "${text}": soft limit is above the hard one`);
  return { type: `RLIMIT_${name.toUpperCase()}`, hard, soft };
}

function limit(text: string): number | bigint {
  if (text === '-1') return unlimited;
  const value = BigInt(text);
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}
