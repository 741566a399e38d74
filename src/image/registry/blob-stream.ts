import { setTimeout as sleep } from 'node:timers/promises';
import { CrioError, messageOf } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import type { Logger } from '../../base/log.ts';
import type { RegistryClient } from './client.ts';
import { FailedPlaces, healthyFirst } from './places.ts';
import type { Place } from './places.ts';
import { giveBack } from './received-memory.ts';
import { isPassing } from './retry.ts';

export interface BlobStreamOptions {
  readonly digest: Digest;
  /** bytes; undefined when the manifest does not say. */
  readonly size: number | undefined;
  /** Most bytes taken when the size is not known. */
  readonly maxSize?: number;
  /** Places that have it, best first. */
  readonly places: readonly Place[];
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** The consumer is done with a piece when it asks for the next one: its memory is given back then. */
  readonly releasesPieces?: boolean;
  /** Called with the number of new bytes, and when another endpoint serves. */
  onBytes(count: number): void;
  onEndpoint(label: string, place: Place): void;
}

/** Breaks in a row, without a byte between them, and times that it was too slow, before an endpoint is given up. */
const maxBreaks = 3;

/**
 * A blob as one stream, of exactly `size` bytes when that is known, whatever happens to the connections below it: a broken one is resumed
 * by range, and the next endpoint goes on where the last one failed. The digest is the consumer's to check.
 */
export async function* streamBlob(options: BlobStreamOptions): AsyncGenerator<Buffer, void, undefined> {
  const failed = new FailedPlaces();
  const state = { offset: 0 };
  const places = healthyFirst(options.places);
  for (const [index, place] of places.entries()) {
    options.onEndpoint(place.label, place);
    const isLast = index === places.length - 1;
    try {
      yield* streamFrom(await place.open(options.signal), options, { state, isLast });
      failed.passedOver();
      return;
    } catch (error) {
      if (options.signal.aborted || isFinal(error)) throw error;
      failed.add(place, error);
      options.log.debug(() => `Blob ${options.digest} from ${place.label}: ${messageOf(error)}`);
    }
  }
  throw failed.describe(`read blob ${options.digest}`);
}

async function* streamFrom(
  client: RegistryClient,
  options: BlobStreamOptions,
  { state, isLast }: { readonly state: { offset: number }; readonly isLast: boolean },
): AsyncGenerator<Buffer, void, undefined> {
  for (let breaks = 0; ;) {
    const before = state.offset;
    try {
      yield* streamOnce(client, options, state);
      return;
    } catch (error) {
      if (options.signal.aborted || isFinal(error)) throw error;
      // The connection broke after the last byte.
      if (state.offset === options.size && state.offset > before) return;
      // A server that trickles makes progress too, but must not keep the next one from its turn.
      breaks = state.offset > before && !isTooSlow(error) ? 1 : breaks + 1;
      if (breaks > maxBreaks || !isBroken(error) || (isTooSlow(error) && !isLast)) throw error;
      options.log.debug(
        () => `Blob ${options.digest} broke at ${state.offset} of ${options.size} bytes, resuming: ${messageOf(error)}`,
      );
      await sleep(client.endpoint.limits.backoffMs * breaks, undefined, { signal: options.signal });
    }
  }
}

async function* streamOnce(
  client: RegistryClient,
  options: BlobStreamOptions,
  state: { offset: number },
): AsyncGenerator<Buffer, void, undefined> {
  const limit = options.size ?? options.maxSize ?? 0;
  const opened = await client.openBlob(options.digest, state.offset, options.signal);
  let skip = state.offset - opened.offset;
  for await (const chunk of opened.body) {
    const wanted = skip === 0 ? chunk : chunk.subarray(Math.min(skip, chunk.length));
    skip -= chunk.length - wanted.length;
    if (state.offset + wanted.length > limit)
      throw new BlobSizeError(`read blob ${options.digest}: longer than the ${limit} bytes its manifest names`);
    state.offset += wanted.length;
    options.onBytes(wanted.length);
    if (wanted.length > 0) yield wanted;
    if (options.releasesPieces === true) giveBack(chunk);
  }
  if (options.size !== undefined && state.offset < options.size) {
    throw new CrioError('unavailable', `ended after ${state.offset} of ${options.size} bytes`);
  }
}

/** The content is wrong: nothing that is read after it can make it right. */
class BlobSizeError extends CrioError {
  constructor(message: string) {
    super('invalid', message);
    this.name = 'BlobSizeError';
  }
}

function isFinal(error: unknown): boolean {
  return error instanceof BlobSizeError;
}

function isTooSlow(error: unknown): boolean {
  return error instanceof CrioError && error.kind === 'deadline';
}

/** A connection that broke or went silent inside the body, in contrast to an answer that says no. */
function isBroken(error: unknown): boolean {
  return (
    isPassing(error) || (error instanceof CrioError && (error.kind === 'unavailable' || error.kind === 'deadline'))
  );
}
