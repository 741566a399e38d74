import { CrioError, hasCode, kindOf, messageOf } from '../../base/errors.ts';
import { RegistryError } from './registry-error.ts';

/** One endpoint that was tried in vain. */
export interface Failure {
  /** The endpoint, its role and the credentials used: `https://m.io (mirror, no credentials)`. */
  readonly where: string;
  readonly error: unknown;
  readonly isMirror?: boolean;
}

/** Of all endpoints that were asked, none gave what was asked for. */
export class EndpointsError extends CrioError {}

/**
 * One error for all endpoints: which was tried, with which credentials, and what it answered. Its kind and cause are those
 * of the registry itself, where that was asked: a mirror need not have the image, nor be there.
 */
export function describeFailures(what: string, failures: readonly Failure[]): EndpointsError {
  const texts = failures.map(({ where, error }) => `${where}: ${causeText(error)}`);
  const decisive = failures.findLast(({ isMirror }) => isMirror !== true) ?? failures.at(-1);
  return new EndpointsError(kindOf(decisive?.error), `${what}: ${texts.join('; ')}`, { cause: decisive?.error });
}

/** The label metrics use for a failure: the registry's code, or what happened to the connection. */
export function failureLabel(error: unknown): string {
  for (const cause of causes(error)) {
    if (cause instanceof RegistryError && cause.code !== '') return cause.code;
    if (cause instanceof RegistryError && cause.status === 404) return 'NOT_FOUND';
    if (hasCode(cause, 'ECONNREFUSED')) return 'CONNECTION_REFUSED';
    if (hasCode(cause, 'ETIMEDOUT') || (cause instanceof CrioError && cause.kind === 'deadline'))
      return 'CONNECTION_TIMEOUT';
  }
  return 'UNKNOWN';
}

/** True when somewhere in the chain nobody listened at an address: CRI-O's definition of an unavailable registry. */
export function isRegistryUnavailable(error: unknown): boolean {
  return hasCause(error, (cause) => hasCode(cause, 'ECONNREFUSED'));
}

/** True when the error or one below it is one of these. */
export function hasCause(error: unknown, is: (cause: unknown) => boolean): boolean {
  return [...causes(error)].some(is);
}

/** An error and everything below it: its cause, and the parts of an AggregateError (one per address or endpoint). */
function* causes(error: unknown, depth = 0): Iterable<unknown> {
  if (error === undefined || depth > 20) return;
  yield error;
  if (error instanceof AggregateError) for (const part of error.errors) yield* causes(part, depth + 1);
  if (error instanceof Error) yield* causes(error.cause, depth + 1);
}

/** What OpenSSL says of a first answer that is no TLS record. */
function isPlainHttp(error: unknown): boolean {
  return hasCause(
    error,
    (cause) =>
      hasCode(cause, 'EPROTO', 'ERR_SSL_WRONG_VERSION_NUMBER') && /wrong version number/.test(messageOf(cause)),
  );
}

/** OpenSSL's words for a certificate whose authority this machine does not trust, as Node's codes. */
const unknownAuthority = [
  ...['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'UNABLE_TO_GET_ISSUER_CERT'],
  ...['SELF_SIGNED_CERT_IN_CHAIN', 'DEPTH_ZERO_SELF_SIGNED_CERT'],
];

/** Node's own advice is about a flag that nobody here can set. */
const nodeAdvice = /; if the root CA is installed locally, try running Node\.js with --use-system-ca/;

/** For people. Node leaves the message of an AggregateError empty. */
export function causeText(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join(', ');
  if (isPlainHttp(error))
    return 'the server speaks plain HTTP where TLS is expected; if it may, set insecure = true for it in registries.conf';
  if (hasCause(error, (cause) => hasCode(cause, ...unknownAuthority)))
    return `${messageOf(error).replace(nodeAdvice, '')}; if its authority is to be trusted, it belongs into /etc/containers/certs.d/HOST[:PORT]/ca.crt`;
  return messageOf(error);
}
