/**
 * Works on items in their order, `atOnce` of them at a time. When one fails, the signal of the others ends, and no other is
 * begun; rejects with that error, or the reason of `signal`, when all that were begun have ended.
 */
export async function sideBySide<T>(
  items: Iterable<T>,
  { atOnce, signal }: { readonly atOnce: number; readonly signal: AbortSignal },
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const queue = Iterator.from(items);
  const workers = Array.from({ length: atOnce }, async () => {
    for (const item of queue) {
      either.throwIfAborted();
      await work(item, either);
    }
  });
  for (const worker of workers) worker.catch((error: unknown) => failed.abort(error));
  const results = await Promise.allSettled(workers);
  signal.throwIfAborted();
  if (failed.signal.aborted) throw failed.signal.reason;
  const rejected = results.find((result) => result.status === 'rejected');
  if (rejected !== undefined) throw rejected.reason;
}
