import { constants } from 'node:os';

/** Real-time signals that programs may use (signal(7), glibc). */
const rtMin = 34;
const rtMax = 64;

const numbers: ReadonlyMap<string, number> = new Map(Object.entries(constants.signals));

/** Signal number of `SIGTERM`, `TERM`, `sigrtmin+3` or `15`; undefined for anything else, such as an image's typo. */
export function parseSignal(text: string): number | undefined {
  const trimmed = text.trim().toUpperCase();
  if (/^\d{1,2}$/.test(trimmed)) {
    const number = Number(trimmed);
    return number >= 1 && number <= rtMax ? number : undefined;
  }
  const name = trimmed.startsWith('SIG') ? trimmed : `SIG${trimmed}`;
  const realTime = /^SIGRTM(IN|AX)(?:([+-])(\d{1,2}))?$/.exec(name);
  if (realTime === null) return numbers.get(name);
  const offset = Number(realTime[3] ?? 0) * (realTime[2] === '-' ? -1 : 1);
  const number = (realTime[1] === 'IN' ? rtMin : rtMax) + offset;
  return number >= rtMin && number <= rtMax ? number : undefined;
}

/** `SIGTERM` for 15; real-time signals as `SIGRTMIN+n`. */
export function signalName(number: number): string {
  for (const [name, value] of numbers) if (value === number) return name;
  return number === rtMin ? 'SIGRTMIN' : `SIGRTMIN+${number - rtMin}`;
}
