import type { InterfaceUsage } from './stats.ts';

/** Columns of /proc/<pid>/net/dev after the name: 8 received, 8 sent (proc_pid_net(5)). */
const rxBytes = 0;
const rxErrors = 2;
const txBytes = 8;
const txErrors = 10;
const columns = 16;

/** The interfaces of a net/dev file in its order; the two heading lines and malformed ones are left out. */
export function parseNetDev(text: string): InterfaceUsage[] {
  const interfaces: InterfaceUsage[] = [];
  for (const line of text.split('\n')) {
    const colon = line.lastIndexOf(':');
    const name = line.slice(0, colon).trim();
    const values = line
      .slice(colon + 1)
      .trim()
      .split(/\s+/);
    if (colon <= 0 || name === '' || values.length !== columns || !values.every((value) => /^\d+$/.test(value)))
      continue;
    const at = (column: number) => BigInt(values[column] ?? 0);
    interfaces.push({
      name,
      rxBytes: at(rxBytes),
      rxErrors: at(rxErrors),
      txBytes: at(txBytes),
      txErrors: at(txErrors),
    });
  }
  return interfaces;
}
