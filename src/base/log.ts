import { messageOf } from './errors.ts';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal';
const rank: Record<LogLevel, number> = { trace: 0, debug: 1, info: 2, warn: 3, error: 4, fatal: 5 };
/** logrus's names, as they stand in its text format. */
const logrusName: Record<LogLevel, string> = {
  trace: 'trace',
  debug: 'debug',
  info: 'info',
  warn: 'warning',
  error: 'error',
  fatal: 'fatal',
};

/** Where finished lines go, and what is let through. Shared by a logger and all its children; may change on reload. */
export interface LogSink {
  level: LogLevel;
  /** Only messages that match are written, as CRI-O's `log_filter`; `error` and above always are. */
  filter: RegExp | undefined;
  format: 'text' | 'json';
  write(line: string): void;
}

/** A message, or a function that builds it: called only when the level is on. */
export type LogMessage = string | (() => string);

/** One line per event in logrus's text format: `time="..." level=info msg="..." key=value`. */
export class Logger {
  readonly #sink: LogSink;
  readonly #fields: Readonly<Record<string, string>>;

  constructor(sink: LogSink, fields: Readonly<Record<string, string>> = {}) {
    this.#sink = sink;
    this.#fields = fields;
  }

  /** A logger that adds these fields to every line. */
  with(fields: Readonly<Record<string, string>>): Logger {
    return new Logger(this.#sink, { ...this.#fields, ...fields });
  }

  isEnabled(level: LogLevel): boolean {
    return rank[level] >= rank[this.#sink.level];
  }

  trace(message: LogMessage): void {
    this.#write('trace', message);
  }
  debug(message: LogMessage): void {
    this.#write('debug', message);
  }
  info(message: LogMessage): void {
    this.#write('info', message);
  }
  warn(message: LogMessage, error?: unknown): void {
    this.#write('warn', message, error);
  }
  error(message: LogMessage, error?: unknown): void {
    this.#write('error', message, error);
  }
  fatal(message: LogMessage, error?: unknown): void {
    this.#write('fatal', message, error);
  }

  #write(level: LogLevel, message: LogMessage, error?: unknown): void {
    if (!this.isEnabled(level)) return;
    const text = typeof message === 'function' ? message() : message;
    const full = error === undefined ? text : `${text}: ${messageOf(error)}`;
    if (rank[level] < rank.error && this.#sink.filter?.test(full) === false) return;
    this.#sink.write(
      this.#sink.format === 'json' ? jsonLine(level, full, this.#fields) : textLine(level, full, this.#fields),
    );
  }
}

function textLine(level: LogLevel, message: string, fields: Readonly<Record<string, string>>): string {
  let line = `time="${timestamp()}" level=${logrusName[level]} msg=${quote(message)}`;
  for (const [key, value] of Object.entries(fields)) line += ` ${key}=${quoteIfNeeded(value)}`;
  return `${line}\n`;
}

function jsonLine(level: LogLevel, message: string, fields: Readonly<Record<string, string>>): string {
  return `${JSON.stringify({ ...fields, level: logrusName[level], msg: message, time: timestamp() })}\n`;
}

/** RFC 3339 with nanosecond digits in UTC; Node only knows milliseconds, so the rest is zero. */
function timestamp(): string {
  return new Date().toISOString().replace('Z', '000000Z');
}

/** Control characters are escaped, so that one event stays one line whatever a client sent. */
function quote(text: string): string {
  return JSON.stringify(text);
}

function quoteIfNeeded(text: string): string {
  return /^[A-Za-z0-9\-._/@^+]+$/.test(text) ? text : quote(text);
}

/** A sink on standard error. */
export function stderrSink(level: LogLevel = 'info'): LogSink {
  return {
    level,
    filter: undefined,
    format: 'text',
    write(line) {
      process.stderr.write(line);
    },
  };
}

/** Drops everything; for tests. */
export const silentLog = new Logger({ level: 'fatal', filter: undefined, format: 'text', write() {} });
