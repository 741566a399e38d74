import { status } from '@grpc/grpc-js';
import { kindOf, messageOf, type ErrorKind } from '../base/errors.ts';

/**
 * The only table from error kinds to gRPC codes. CRI-O itself answers `Unknown` for everything but "not found" and
 * context errors; the kubelet only tells NotFound, DeadlineExceeded, Unimplemented, Unavailable and ResourceExhausted apart.
 */
const codes: Readonly<Record<ErrorKind, status>> = {
  'not-found': status.NOT_FOUND,
  'already-exists': status.ALREADY_EXISTS,
  invalid: status.INVALID_ARGUMENT,
  'failed-precondition': status.FAILED_PRECONDITION,
  unavailable: status.UNAVAILABLE,
  deadline: status.DEADLINE_EXCEEDED,
  canceled: status.CANCELLED,
  'resource-exhausted': status.RESOURCE_EXHAUSTED,
  unimplemented: status.UNIMPLEMENTED,
  unknown: status.UNKNOWN,
  internal: status.INTERNAL,
};

/** What a client gets for an error: a code and one line of text, never a stack trace. */
export function toGrpcStatus(error: unknown): { code: status; details: string } {
  return { code: codes[kindOf(error)], details: bounded(messageOf(error)) };
}

/** Characters at the start and at the end of a text that is cut. */
const [headLength, tailLength] = [4096, 1024];

/**
 * A text is sent as a header, percent-encoded, and clients end the whole connection for one that is too long. A runtime
 * puts a program's name of a megabyte into its error.
 */
function bounded(text: string): string {
  const cut = text.length - headLength - tailLength;
  if (cut <= 0) return text;
  return `${text.slice(0, headLength)}... (${cut} characters) ...${text.slice(-tailLength)}`.toWellFormed();
}
