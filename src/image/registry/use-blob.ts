import { CrioError, kindOf, messageOf } from '../../base/errors.ts';
import { streamBlob } from './blob-stream.ts';
import type { BlobStreamOptions } from './blob-stream.ts';
import { describeFailures, EndpointsError, hasCause } from './failures.ts';
import type { Failure } from './failures.ts';
import type { Place } from './places.ts';

export interface UseBlobOptions extends BlobStreamOptions {
  /** Called when the blob is read again from its start. */
  onRestart?(): void;
}

/**
 * Gives `use` the blob as a stream. What `use` calls `invalid` may be the fault of the place that sent it: it is called once
 * more with what the other places have, if there are any.
 */
export async function useBlob<T>(
  options: UseBlobOptions,
  use: (blob: AsyncIterable<Buffer>) => Promise<T>,
): Promise<T> {
  const first = await tryBlob(options, use);
  if (first.isDone) return first.result;
  const asked = new Set(first.asked);
  const unasked = options.places.filter((place) => !asked.has(place));
  // A blob whose end came from another place than its start may be whole there.
  const places = unasked.length > 0 ? unasked : first.served.slice(1);
  if (places.length === 0) throw describeFailures(`read blob ${options.digest}`, [first.failure]);
  options.log.warn(`Blob ${options.digest} from ${first.failure.where} is wrong: ${messageOf(first.failure.error)}`);
  options.onRestart?.();
  const second = await tryBlob({ ...options, places }, use).catch((error: unknown) => {
    if (options.signal.aborted || !hasCause(error, (cause) => cause instanceof EndpointsError)) throw error;
    return { isDone: false, failure: { where: 'read again', error, isMirror: places.every(isMirror) } } as const;
  });
  if (second.isDone) return second.result;
  throw describeFailures(`read blob ${options.digest}`, [first.failure, second.failure]);
}

function isMirror({ source }: Place): boolean {
  return source.isMirror;
}

type Outcome<T> =
  | { readonly isDone: true; readonly result: T }
  | {
      readonly isDone: false;
      readonly asked: readonly Place[];
      /** Those that sent something. */
      readonly served: readonly Place[];
      readonly failure: Failure;
    };

/** Throws what has nothing to do with the content. */
async function tryBlob<T>(
  options: BlobStreamOptions,
  use: (blob: AsyncIterable<Buffer>) => Promise<T>,
): Promise<Outcome<T>> {
  const asked: Place[] = [];
  const served = new Set<Place>();
  const blob = streamBlob({
    ...options,
    onBytes(count) {
      for (const place of asked.slice(-1)) served.add(place);
      options.onBytes(count);
    },
    onEndpoint(label, place) {
      asked.push(place);
      options.onEndpoint(label, place);
    },
  });
  try {
    return { isDone: true, result: await use(blob) };
  } catch (error) {
    const isWrong = error instanceof CrioError && kindOf(error) === 'invalid' && asked.length > 0;
    if (options.signal.aborted || !isWrong) throw error;
    const from = served.size > 0 ? [...served] : asked.slice(-1);
    const where = from.map((place) => place.describe()).join(' and ');
    return { isDone: false, asked, served: [...served], failure: { where, error, isMirror: from.every(isMirror) } };
  }
}
