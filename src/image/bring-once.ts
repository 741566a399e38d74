import type { JoinedWork } from './joined-work.ts';
import type { LayerTracker } from './pull-progress.ts';

/** Layers and blobs that any pull is working on, by id. */
export interface RunningBlobs {
  readonly work: JoinedWork<void>;
  /** The tracker of the pull that brings it. */
  readonly leaders: Map<string, LayerTracker>;
}

/** Brings what several pulls may need at the same time: one of them brings it, the others wait. */
export async function bringOnce(options: {
  readonly id: string;
  readonly running: RunningBlobs;
  readonly tracker: LayerTracker;
  readonly signal: AbortSignal;
  isThere(): Promise<boolean>;
  /** The signal ends when nobody waits any more. */
  bring(signal: AbortSignal): Promise<void>;
}): Promise<void> {
  const { id, running, tracker, signal } = options;
  for (;;) {
    if (await options.isThere()) {
      tracker.setPhase('exists');
      return;
    }
    const { isOwner, result } = running.work.join(id, signal, (workSignal) => lead(options, workSignal));
    if (!isOwner) tracker.setJoined(running.leaders.get(id));
    try {
      await result;
      tracker.setPhase('done');
      return;
    } catch (error) {
      // The other pull may have failed for a reason of its own, its credentials or its mirror: try it ourselves.
      if (isOwner || signal.aborted) throw error;
    }
  }
}

async function lead(options: Parameters<typeof bringOnce>[0], signal: AbortSignal): Promise<void> {
  const { id, running, tracker } = options;
  running.leaders.set(id, tracker);
  try {
    await options.bring(signal);
  } finally {
    if (running.leaders.get(id) === tracker) running.leaders.delete(id);
  }
}
