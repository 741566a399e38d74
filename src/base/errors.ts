import { constants } from 'node:os';

/** The closed set of error kinds. `cri/status.ts` holds the only table from kind to gRPC code. */
export type ErrorKind =
  | 'not-found'
  | 'already-exists'
  | 'invalid'
  | 'failed-precondition'
  | 'unavailable'
  | 'deadline'
  | 'canceled'
  | 'resource-exhausted'
  | 'unimplemented'
  | 'unknown'
  | 'internal';

/**
 * An error with a kind. The text reads `verb object "value": cause`, lower case, without "failed to";
 * `wrap` appends the cause's text, so one line tells the whole story.
 */
export class CrioError extends Error {
  readonly kind: ErrorKind;

  constructor(kind: ErrorKind, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'CrioError';
    this.kind = kind;
  }
}

/** A failed system call, shaped like Node's own errors: `err.code === 'ENOENT'`. */
export class SysError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  readonly path: string | undefined;

  constructor(options: { code: string; errno: number; syscall: string; path?: string | undefined }) {
    const where = options.path === undefined ? '' : ` "${options.path}"`;
    super(`${options.syscall}${where}: ${options.code}`);
    this.name = 'SysError';
    this.code = options.code;
    this.errno = options.errno;
    this.syscall = options.syscall;
    this.path = options.path;
  }
}

/** The error of a call by descriptor, which has no path in it, with this one; any other error as it is. */
export function atPath(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !('code' in error) || 'path' in error) return error;
  const { code } = error;
  const errno = 'errno' in error && typeof error.errno === 'number' ? error.errno : 0;
  const syscall = 'syscall' in error && typeof error.syscall === 'string' ? error.syscall : 'use';
  return new SysError({ code: code === quotaCode ? 'EDQUOT' : String(code), errno: Math.abs(errno), syscall, path });
}

/** Adds what this layer knows to an error: `verb object "value": cause`. Keeps the cause's kind. */
export function wrap(message: string, cause: unknown, kind?: ErrorKind): CrioError {
  return new CrioError(kind ?? kindOf(cause), `${message}: ${messageOf(cause)}`, { cause });
}

/** libuv has no name for it; its errors have this as their code, and twice in their text. */
const quotaCode = `Unknown system error -${constants.errno.EDQUOT}`;

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message.replace(`${quotaCode}: ${quotaCode}`, 'EDQUOT: disk quota exceeded');
}

/** The kind of anything that was thrown; errors of the system and of libraries are `unknown`. */
export function kindOf(error: unknown): ErrorKind {
  if (error instanceof CrioError) return error.kind;
  if (error instanceof Error && error.name === 'AbortError') return 'canceled';
  return 'unknown';
}

/** True when `error` is a failed system call (Node's or ours) with one of these codes. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false;
  return typeof error.code === 'string' && codes.includes(error.code === quotaCode ? 'EDQUOT' : error.code);
}
