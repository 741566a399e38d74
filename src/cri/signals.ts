import { constants } from 'node:os';
import { CrioError } from '../base/errors.ts';
import { Signal } from './gen/api_pb.ts';

/** First real-time signal that programs may use (signal(7), glibc). */
const rtMin = 34;
const rtMax = 64;
/** Names that Node does not know, with the signal they are another name of (signal(7)). */
const aliases: Readonly<Record<string, number>> = { SIGCLD: 17, SIGIOT: 6, SIGPOLL: 29 };

/** The Linux signal number of CRI's enum value; 0 for "as the runtime decides". */
export function toSignalNumber(signal: Signal): number {
  if (signal === Signal.RUNTIME_DEFAULT) return 0;
  const name = signalNames.get(signal);
  const number = name === undefined ? undefined : numberOf(name);
  if (number === undefined) throw new CrioError('invalid', `stop_signal: unknown value ${signal}`);
  return number;
}

/** CRI's enum value of a Linux signal number; the default when there is none. */
export function fromSignalNumber(number: number): Signal {
  for (const [signal, name] of signalNames) {
    if (numberOf(name) === number) return signal;
  }
  return Signal.RUNTIME_DEFAULT;
}

const signalNames: ReadonlyMap<Signal, string> = new Map(
  Object.entries(Signal)
    .map(([name, value]): [Signal, string] => [value, name])
    .filter(([value]) => value !== Signal.RUNTIME_DEFAULT),
);

function numberOf(name: string): number | undefined {
  const realtime = /^SIGRTM(IN|AX)(?:(?:PLUS|MINUS)(\d+))?$/.exec(name);
  if (realtime !== null) {
    const offset = Number(realtime[2] ?? 0);
    return realtime[1] === 'IN' ? rtMin + offset : rtMax - offset;
  }
  const known: Readonly<Record<string, number>> = constants.signals;
  return known[name] ?? aliases[name];
}
