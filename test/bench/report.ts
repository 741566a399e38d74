import type { Percentiles } from './statistics.ts';

export interface HandlerReport {
  readonly calls: Record<string, Percentiles>;
  readonly floor: Record<string, Percentiles>;
  readonly podsPerSecond: number;
  readonly podsPerSecondFloor: number;
  readonly execsPerSecond: number;
  readonly execsPerSecondFloor: number;
}

export interface Report {
  readonly unit: 'ms';
  readonly handlers: Partial<Record<string, HandlerReport>>;
  readonly list: Record<string, Record<string, Percentiles>>;
  readonly rssMiB: { readonly before: number; readonly after: number };
  readonly startMs: number;
}

/** For people; the JSON line after it is for programs. */
export function printTables({ handlers, list, rssMiB, startMs }: Report): void {
  for (const [name, report] of Object.entries(handlers)) {
    if (report !== undefined) printHandler(name, report);
  }
  for (const [count, calls] of Object.entries(list)) {
    console.log(`\nlists with ${count} containers (ms)`);
    for (const [name, times] of Object.entries(calls)) console.log(`  ${name.padEnd(20)}${cells(times)}`);
  }
  console.log(
    `\nRSS ${rssMiB.before} MiB idle, ${rssMiB.after} MiB with the pods; ${startMs} ms from start to the first answer`,
  );
  printTargets({ handlers, list, rssMiB, startMs });
}

function printHandler(name: string, { calls, floor, ...rates }: HandlerReport): void {
  console.log(
    `\n${name} (ms)${' '.repeat(20 - name.length)}p50      p95      p99 | floor p50      p95      p99 | ratio of p50`,
  );
  for (const [call, times] of Object.entries(calls)) {
    const below = floor[call];
    const ratio = below === undefined ? '' : (times.p50 / below.p50).toFixed(2);
    console.log(
      `  ${call.padEnd(20)}${cells(times)} | ${below === undefined ? ' '.repeat(27) : ` ${cells(below)}`} | ${ratio}`,
    );
  }
  console.log(`  pods per second with 10 clients: ${rates.podsPerSecond}, floor ${rates.podsPerSecondFloor}`);
  console.log(`  execs per second with 10 clients: ${rates.execsPerSecond}, floor ${rates.execsPerSecondFloor}`);
}

/** Each target of the project and whether this run met it. */
function printTargets({ handlers, list, rssMiB, startMs }: Omit<Report, 'unit'>): void {
  const lines: [string, number, number][] = [];
  for (const [name, report] of Object.entries(handlers)) {
    if (report === undefined) continue;
    const ratio = (call: string): number => (report.calls[call]?.p50 ?? 0) / (report.floor[call]?.p50 ?? 1);
    lines.push(
      [`${name}: PodUp / floor`, ratio('PodUp'), name === 'crun' ? 1.0 : 1.15],
      [`${name}: PodDown / floor`, ratio('PodDown'), name === 'crun' ? 1.0 : 1.15],
    );
    lines.push([
      `${name}: ExecSync - floor (ms)`,
      (report.calls['ExecSync']?.p50 ?? 0) - (report.floor['ExecSync']?.p50 ?? 0),
      3,
    ]);
    lines.push([`${name}: floor pods/s / pods/s`, report.podsPerSecondFloor / report.podsPerSecond, 1 / 0.9]);
    lines.push([`${name}: floor execs/s / execs/s`, report.execsPerSecondFloor / report.execsPerSecond, 1 / 0.9]);
  }
  lines.push([
    'slowest list p99 with 500 (ms)',
    Math.max(0, ...listsOnly(list['500'] ?? {}).map((times) => times.p99)),
    5,
  ]);
  lines.push(['RSS with 100 pods (MiB)', rssMiB.after, 90], ['start (ms)', startMs, 400]);
  console.log('\ntargets');
  for (const [name, value, limit] of lines)
    console.log(
      `  ${value <= limit ? 'met   ' : 'MISSED'} ${name.padEnd(34)}${value.toFixed(2)} (at most ${limit.toFixed(2)})`,
    );
}

/** Statistics of containers are read anew for each answer: they are shown, but have no target. */
function listsOnly(calls: Record<string, Percentiles>): Percentiles[] {
  return Object.entries(calls)
    .filter(([name]) => !name.endsWith('Stats'))
    .map(([, times]) => times);
}

function cells({ p50, p95, p99 }: Percentiles): string {
  return [p50, p95, p99].map((value) => value.toFixed(2).padStart(9)).join('');
}
