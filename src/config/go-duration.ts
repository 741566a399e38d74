/** Durations in Go's syntax: `5s`, `1m30s`, `1.5h`, `-2ms`, `0`. The daemon holds them in milliseconds. */

const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  // The micro sign and the Greek letter mu.
  '\u00b5s': 1e-3,
  '\u03bcs': 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

const whole = /^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|[\u00b5\u03bc]s|ms|s|m|h))+$/;
const part = /(\d+\.?\d*|\.\d+)(ns|us|[\u00b5\u03bc]s|ms|s|m|h)/g;

/** Milliseconds, or undefined when the text is no duration or does not fit into 64 bits of nanoseconds. */
export function parseDuration(text: string): number | undefined {
  if (/^[+-]?0$/.test(text)) return 0;
  if (!whole.test(text)) return undefined;
  let ms = 0;
  for (const [, amount, unit] of text.matchAll(part)) ms += Number(amount) * (unitMs[unit ?? ''] ?? Number.NaN);
  if (!(ms <= maxMs)) return undefined;
  const rounded = Math.round(ms * 1e6) / 1e6;
  return text.startsWith('-') && rounded !== 0 ? -rounded : rounded;
}

const maxMs = 9_223_372_036_854;

/** As Go prints it: `1h0m0s`, `1m30s`, `2.5s`, `100ms`, `1.5µs`, `0s`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0s';
  const sign = ms < 0 ? '-' : '';
  const ns = Math.round(Math.abs(ms) * 1e6);
  if (ns < 1000) return `${sign}${ns}ns`;
  if (ns < 1e6) return `${sign}${decimal(ns, 1e3)}µs`;
  if (ns < 1e9) return `${sign}${decimal(ns, 1e6)}ms`;
  return sign + longForm(ns);
}

function longForm(ns: number): string {
  const minutes = Math.floor(ns / 60e9);
  const seconds = `${decimal(ns - minutes * 60e9, 1e9)}s`;
  if (minutes === 0) return seconds;
  const hours = Math.floor(minutes / 60);
  return hours === 0 ? `${minutes}m${seconds}` : `${hours}h${minutes % 60}m${seconds}`;
}

/** `value / unit` with all its digits and none in excess. */
function decimal(value: number, unit: number): string {
  const fraction = String(value % unit).padStart(String(unit).length - 1, '0');
  const digits = fraction.replace(/0+$/, '');
  return `${Math.floor(value / unit)}${digits === '' ? '' : `.${digits}`}`;
}
