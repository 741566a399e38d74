import { setTimeout as sleep } from 'node:timers/promises';
import { goJson } from '../base/go-json.ts';
import { messageOf } from '../base/errors.ts';
import type { PullProgress } from '../image/pull-progress.ts';
import type { RegistryAuth } from './registry-auth.ts';

/** What the pulls side of the API reads and does. */
export interface PullsDeps {
  readonly list: () => readonly PullProgress[];
  /** Pulls, or joins a pull of the same thing; the result is the image's id. */
  readonly pull: (request: PullTarget, signal: AbortSignal) => Promise<string>;
}

export interface PullTarget extends RegistryAuth {
  readonly reference: string;
  readonly namespace: string;
}

const times = {
  /** So often a client of the events is told what has changed. */
  intervalMs: 200,
  /** A comment after so long without news: it shows a dead client, and keeps a proxy from closing the connection. */
  keepAliveMs: 15_000,
} as const;

/** The body of `GET /pulls`: `{"pulls": [...]}`, oldest first. Sizes in bytes, times in ms since the epoch. */
export function encodePulls(pulls: readonly PullProgress[]): string {
  return `{"pulls":[${pulls.map(encodePull).join(',')}]}`;
}

/**
 * The body of `GET /pulls/events`, server-sent events: `progress` with one pull, at its start and whenever it has
 * changed, and `end` with its id and name when it is over. Goes on until the signal.
 */
export async function* pullEvents(
  deps: Pick<PullsDeps, 'list'>,
  signal: AbortSignal,
  { intervalMs, keepAliveMs }: { readonly intervalMs: number; readonly keepAliveMs: number } = times,
): AsyncGenerator<string> {
  const seen = new Map<string, string>();
  let quietMs = 0;
  yield comment('pulls');
  while (!signal.aborted) {
    const events = changes(seen, deps.list());
    quietMs = events.length > 0 ? 0 : quietMs + intervalMs;
    yield* events;
    if (quietMs >= keepAliveMs) {
      quietMs = 0;
      yield comment('');
    }
    await pause(intervalMs, signal);
  }
}

/**
 * The body of `POST /pulls?image=...&namespace=...`: `progress` of this pull, then `done` with the image's id or
 * `failed` with the error. The pull goes on for a while when the client leaves, as any other does.
 */
export async function* pullWithEvents(
  deps: PullsDeps,
  target: PullTarget,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const ended = new AbortController();
  const result = deps
    .pull(target, signal)
    .then((id) => event('done', { id }))
    .catch((error: unknown) => event('failed', { error: messageOf(error) }))
    .finally(() => ended.abort());
  const seen = new Map<string, string>();
  while (!ended.signal.aborted) {
    const own = deps
      .list()
      .filter(({ reference, namespace }) => reference === target.reference && namespace === target.namespace);
    yield* changes(seen, own).filter((text) => text.startsWith('event: progress'));
    await pause(times.intervalMs, ended.signal);
  }
  yield await result;
}

/** Events that lead from what was seen to what is, and notes it in `seen`. */
function changes(seen: Map<string, string>, pulls: readonly PullProgress[]): readonly string[] {
  const events: string[] = [];
  const current = new Map(pulls.map((pull) => [keyOf(pull), encodePull(pull)]));
  for (const [key, text] of current) {
    if (seen.get(key) !== text) events.push(`event: progress\ndata: ${text}\n\n`);
    seen.set(key, text);
  }
  for (const key of seen.keys()) {
    if (current.has(key)) continue;
    seen.delete(key);
    events.push(`event: end\ndata: ${key}\n\n`);
  }
  return events;
}

/** What an `end` event says. Several pulls of one name at once differ in their id. */
function keyOf({ id, reference, namespace, startedMs }: PullProgress): string {
  return goJson({ id, reference, namespace, started: startedMs });
}

function encodePull(pull: PullProgress): string {
  return goJson({
    id: pull.id,
    reference: pull.reference,
    namespace: pull.namespace,
    started: pull.startedMs,
    phase: pull.phase,
    layers: pull.layers.map((layer) => ({
      digest: layer.digest,
      size: layer.sizeBytes,
      downloaded: layer.downloadedBytes,
      unpacked: layer.unpackedBytes,
      phase: layer.phase,
      endpoint: layer.endpoint,
      bytes_per_second: layer.bytesPerSecond,
    })),
  });
}

function event(name: string, data: unknown): string {
  return `event: ${name}\ndata: ${goJson(data)}\n\n`;
}

function comment(text: string): string {
  return `: ${text}\n\n`;
}

async function pause(intervalMs: number, signal: AbortSignal): Promise<void> {
  await sleep(intervalMs, undefined, { signal, ref: false }).catch(() => {});
}
