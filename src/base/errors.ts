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
  const code = codeOf(error);
  const errno = 'errno' in error && typeof error.errno === 'number' ? error.errno : 0;
  const syscall = 'syscall' in error && typeof error.syscall === 'string' ? error.syscall : 'use';
  return new SysError({ code: code ?? String(error.code), errno: Math.abs(errno), syscall, path });
}

/** Adds what this layer knows to an error: `verb object "value": cause`. Keeps the cause's kind. */
export function wrap(message: string, cause: unknown, kind?: ErrorKind): CrioError {
  return new CrioError(kind ?? kindOf(cause), `${message}: ${messageOf(cause)}`, { cause });
}

/** errno(3) */
interface ErrorName {
  readonly code: string;
  readonly text: string;
}

const { EBADMSG, EDQUOT, ESTALE } = constants.errno;
/** The same on x86-64 and arm64; Node has no constant for it. */
const EUCLEAN = 117;

/**
 * Errors of disks that libuv has no name for. Node gives them the code `Unknown system error -122`, which stands twice in
 * the text, or (`writeSync`) `UNKNOWN`.
 */
const namesByErrno: ReadonlyMap<number, ErrorName> = new Map([
  [EBADMSG, { code: 'EBADMSG', text: 'bad message' }],
  [EDQUOT, { code: 'EDQUOT', text: 'disk quota exceeded' }],
  [ESTALE, { code: 'ESTALE', text: 'stale file handle' }],
  [EUCLEAN, { code: 'EUCLEAN', text: 'structure needs cleaning' }],
]);

const namelessCode = /^(?:UNKNOWN|Unknown system error -\d+)$/;
const namelessText = /^(?:UNKNOWN: unknown error|(Unknown system error -\d+): \1)/;

/** The name of a failed system call's error that libuv has none for. */
function missingName(error: Error): ErrorName | undefined {
  if (!('code' in error && 'errno' in error) || !namelessCode.test(String(error.code))) return undefined;
  return namesByErrno.get(Math.abs(Number(error.errno)));
}

function codeOf(error: Error): string | undefined {
  if (!('code' in error) || typeof error.code !== 'string') return undefined;
  return missingName(error)?.code ?? error.code;
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const name = missingName(error);
  return name === undefined ? error.message : error.message.replace(namelessText, `${name.code}: ${name.text}`);
}

/** The kind of anything that was thrown; errors of the system and of libraries are `unknown`. */
export function kindOf(error: unknown): ErrorKind {
  if (error instanceof CrioError) return error.kind;
  if (error instanceof Error && error.name === 'AbortError') return 'canceled';
  return 'unknown';
}

/** True when `error` is a failed system call (Node's or ours) with one of these codes. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  const code = error instanceof Error ? codeOf(error) : undefined;
  return code !== undefined && codes.includes(code);
}
