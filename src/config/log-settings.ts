import { CrioError, wrap } from '../base/errors.ts';
import type { LogLevel } from '../base/log.ts';

const levels: ReadonlyMap<string, LogLevel> = new Map([
  ['fatal', 'fatal'],
  ['panic', 'fatal'],
  ['error', 'error'],
  ['warn', 'warn'],
  ['warning', 'warn'],
  ['info', 'info'],
  ['debug', 'debug'],
  ['trace', 'trace'],
]);

/** `log_level`; the text of the error is CRI-O's. */
export function parseLevel(text: string): LogLevel {
  const level = levels.get(text.toLowerCase());
  if (level === undefined) throw new CrioError('invalid', `not a valid logrus Level: ${JSON.stringify(text)}`);
  return level;
}

/** `log_filter`; empty lets everything through. The text of the error is CRI-O's. */
export function parseFilter(text: string): RegExp | undefined {
  if (text === '') return undefined;
  // Go writes flags at the start of the pattern.
  const [prefix = '', flags = ''] = /^\(\?([ims]+)\)/.exec(text) ?? [];
  try {
    return new RegExp(text.slice(prefix.length), flags);
  } catch (error) {
    throw wrap('custom log level filter does not compile', error, 'invalid');
  }
}
