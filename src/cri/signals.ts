import { CrioError } from '../base/errors.ts';
import { parseSignal } from '../container/stop-signal.ts';
import { Signal } from './gen/api_pb.ts';

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

/** The protocol writes `SIGRTMINPLUS1` where others write `SIGRTMIN+1`; Node does not know SIGCLD, the old name of SIGCHLD. */
function numberOf(name: string): number | undefined {
  return parseSignal(name === 'SIGCLD' ? 'SIGCHLD' : name.replace('PLUS', '+').replace('MINUS', '-'));
}
