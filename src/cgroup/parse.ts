/** Pure parsers of the files below a cgroup directory (kernel documentation, cgroup-v1 and cgroup-v2). */

/** v1 counts "no limit" as the largest multiple of the page size below 2^63; nothing real comes near half of that. */
const unlimitedFrom = 2 ** 62;

/** One number; `max` and v1's huge value are Infinity. Undefined when it is no number. */
export function parseLimit(text: string): number | undefined {
  const trimmed = text.trim();
  if (trimmed === 'max') return Infinity;
  const value = parseCount(trimmed);
  return value !== undefined && value >= unlimitedFrom ? Infinity : value;
}

/** One non-negative integer. Values beyond 2^53 lose their last digits. */
export function parseCount(text: string): number | undefined {
  const trimmed = text.trim();
  return /^\d+$/.test(trimmed) ? Number(trimmed) : undefined;
}

/** One non-negative integer, exact: nanosecond counters pass 2^53 after 104 days of CPU time. */
export function parseExact(text: string): bigint | undefined {
  const trimmed = text.trim();
  return /^\d+$/.test(trimmed) ? BigInt(trimmed) : undefined;
}

/** Lines `key value`, as memory.stat, cpu.stat and memory.events have them; malformed lines are left out. */
export function parseFlatKeyed(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    const space = line.indexOf(' ');
    if (space <= 0) continue;
    const value = parseCount(line.slice(space + 1));
    if (value !== undefined) values.set(line.slice(0, space), value);
  }
  return values;
}

/** Process ids of a `cgroup.procs` file. */
export function parseProcs(text: string): number[] {
  return text
    .split('\n')
    .map((line) => Number(line.trim()))
    .filter((pid) => Number.isInteger(pid) && pid > 0);
}

/** Path of a process in each hierarchy (proc_pid_cgroup(5)): controller, or `` for cgroup2, to path. */
export function parseProcCgroup(text: string): Map<string, string> {
  const paths = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^\d+:([^:]*):(\/.*)$/.exec(line);
    if (match?.[1] === undefined || match[2] === undefined) continue;
    for (const controller of match[1].split(',')) paths.set(controller, match[2]);
  }
  return paths;
}
