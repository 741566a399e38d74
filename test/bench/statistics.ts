export interface Percentiles {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

/** Times of one measurement, in ms, kept by call name and round. */
export class Samples {
  readonly #rounds: Map<string, number[]>[] = [];

  startRound(): void {
    this.#rounds.push(new Map());
  }

  add(name: string, milliseconds: number): void {
    const round = this.#rounds.at(-1);
    if (round === undefined) throw new Error('add a sample: no round was started');
    const known = round.get(name);
    if (known === undefined) round.set(name, [milliseconds]);
    else known.push(milliseconds);
  }

  /** Percentiles of each round, and of those the medians. */
  summary(): Record<string, Percentiles> {
    const names = [...new Set(this.#rounds.flatMap((round) => [...round.keys()]))];
    return Object.fromEntries(
      names.map((name) => {
        const rounds = this.#rounds.map((round) => percentiles(round.get(name) ?? []));
        const middle = (key: keyof Percentiles): number => round2(median(rounds.map((item) => item[key])));
        return [name, { p50: middle('p50'), p95: middle('p95'), p99: middle('p99') }];
      }),
    );
  }
}

export function percentiles(values: readonly number[]): Percentiles {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number): number =>
    round2(sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? 0);
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

export function median(values: readonly number[]): number {
  return percentiles(values).p50;
}

export function round2(value: number): number {
  return Math.round(value * 100) / 100;
}
