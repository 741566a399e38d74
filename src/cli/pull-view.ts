/** What `crio pull` shows, computed from the daemon's events. */

export interface ShownLayer {
  readonly digest: string;
  readonly size: number;
  readonly downloaded: number;
  readonly phase: string;
  readonly endpoint: string;
  readonly bytesPerSecond: number;
}

export interface ShownPull {
  readonly phase: string;
  readonly layers: readonly ShownLayer[];
}

/** Each call returns the text to write after one more event. */
export type View = (pull: ShownPull) => string;

/** One line for each change of phase, for logs and pipes. */
export function linesView(): View {
  const seen = new Map<string, string>();
  const isNew = (key: string, phase: string) => {
    const before = seen.get(key);
    seen.set(key, phase);
    return before !== phase;
  };
  return ({ phase, layers }) => {
    const lines = isNew('', phase) ? [`${phase}\n`] : [];
    for (const layer of layers) {
      if (layer.phase === 'waiting' || !isNew(layer.digest, layer.phase)) continue;
      const from = layer.phase === 'downloading' && layer.endpoint !== '' ? ` from ${layer.endpoint}` : '';
      lines.push(`layer ${short(layer.digest)}: ${layer.phase} (${formatBytes(layer.size)})${from}\n`);
    }
    return lines.join('');
  };
}

const maxBars = 16;

/** Bars that are drawn over the ones before, with the control sequences of ECMA-48. */
export function barsView(columns: () => number): View {
  let drawn = 0;
  return (pull) => {
    const width = columns();
    const lines = [pull.phase, ...barLines(pull.layers, width)].map(
      (line) => `${printable(line).slice(0, width - 1)}\x1b[K\n`,
    );
    const up = drawn === 0 ? '' : `\x1b[${drawn}A`;
    drawn = lines.length;
    return `${up}${lines.join('')}\x1b[J`;
  };
}

/** Finished layers give way to those that still move when there is not room for all. */
function barLines(layers: readonly ShownLayer[], width: number): readonly string[] {
  const isOver = ({ phase }: ShownLayer) => phase === 'done' || phase === 'exists';
  const shown = layers.length <= maxBars ? layers : layers.filter((layer) => !isOver(layer)).slice(0, maxBars - 1);
  const lines = shown.map((layer) => barLine(layer, Math.max(10, width - 62)));
  if (shown.length === layers.length) return lines;
  return [...lines, `${layers.filter(isOver).length} of ${layers.length} layers are there`];
}

function barLine(layer: ShownLayer, width: number): string {
  const { digest, phase, size, downloaded, bytesPerSecond } = layer;
  const share = phase === 'done' || phase === 'exists' ? 1 : size <= 0 ? 0 : Math.min(1, downloaded / size);
  const full = Math.round(share * width);
  const bar = `${'='.repeat(full)}${' '.repeat(width - full)}`;
  const speed = bytesPerSecond > 0 ? `${formatBytes(bytesPerSecond)}/s` : '';
  return `${short(digest)} [${bar}] ${formatBytes(size).padStart(9)} ${speed.padStart(11)} ${phase}`;
}

function short(digest: string): string {
  return printable(digest.slice(digest.indexOf(':') + 1).slice(0, 12));
}

/** What comes from elsewhere must not control the terminal. */
function printable(text: string): string {
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, '?');
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit] ?? ''}`;
}
