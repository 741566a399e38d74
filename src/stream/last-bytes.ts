/** Between two looks. */
const lookMs = 1000;
/** A client that takes nothing and says nothing for so long has gone. */
const stillLimitMs = 10_000;
/** One that only says that it is there. */
export const lastBytesLimitMs: number = 10 * 60_000;

/**
 * Watches a connection after its end until the client has the last bytes, which a slow one may take long for: without them
 * it would not know how its command ended, and take that for success. Calls `giveUp` once nothing has moved for 10 s, or
 * after 10 minutes. Returns how to stop watching.
 */
export function watchLastBytes(moved: () => number, giveUp: () => void): () => void {
  const beganMs = performance.now();
  let lastMs = beganMs;
  let last = moved();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    const now = moved();
    if (now !== last) lastMs = nowMs;
    last = now;
    if (nowMs - lastMs < stillLimitMs && nowMs - beganMs < lastBytesLimitMs) return;
    clearInterval(timer);
    giveUp();
  }, lookMs);
  timer.unref();
  return () => clearInterval(timer);
}
