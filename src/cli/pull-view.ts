/** What `crio pull` shows, computed from the daemon's events. */

export interface ShownLayer {
  readonly digest: string;
  readonly size: number;
  readonly downloaded: number;
  readonly unpacked: number;
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

/** What of a terminal the bars need; asked at each drawing, as people resize it. */
export interface Screen {
  readonly columns: number;
  readonly rows: number;
}

const maxBars = 16;

/** Bars that are drawn over the ones before, with the control sequences of ECMA-48. */
export function barsView(screen: () => Screen): View {
  let drawn = 0;
  return (pull) => {
    const { columns, rows } = screen();
    // What has left the screen at its upper edge cannot be drawn over.
    const bars = Math.max(1, Math.min(maxBars, rows - 4));
    const lines = [summary(pull), ...barLines(pull.layers, { bars, width: columns })].map(
      (line) => `${printable(line).slice(0, columns - 1)}\x1b[K\n`,
    );
    const up = drawn === 0 ? '' : `\x1b[${drawn}A`;
    drawn = lines.length;
    return `${up}${lines.join('')}\x1b[J`;
  };
}

/** The pull as a whole: phase, what is here of how much, speed, and where it comes from. */
function summary({ phase, layers }: ShownPull): string {
  const sum = (value: (layer: ShownLayer) => number) => layers.reduce((total, layer) => total + value(layer), 0);
  if (layers.length === 0) return phase;
  const here = sum((layer) => (isOver(layer) ? layer.size : layer.downloaded));
  const speed = sum(({ bytesPerSecond }) => bytesPerSecond);
  const from = [...new Set(layers.map(({ endpoint }) => endpoint).filter((endpoint) => endpoint !== ''))];
  return [
    `${phase}: ${formatBytes(here)} of ${formatBytes(sum(({ size }) => size))}`,
    ...(speed > 0 ? [`${formatBytes(speed)}/s`] : []),
    ...(from.length > 0 ? [`from ${from.join(', ')}`] : []),
  ].join(' ');
}

function isOver({ phase }: ShownLayer): boolean {
  return phase === 'done' || phase === 'exists';
}

/** Finished layers give way to those that still move when there is not room for all. */
function barLines(
  layers: readonly ShownLayer[],
  { bars, width }: { readonly bars: number; readonly width: number },
): readonly string[] {
  const shown = layers.length <= bars ? layers : layers.filter((layer) => !isOver(layer)).slice(0, bars - 1);
  const lines = shown.map((layer) => barLine(layer, Math.max(10, width - 52)));
  if (shown.length === layers.length) return lines;
  return [...lines, `${layers.filter(isOver).length} of ${layers.length} layers are there`];
}

/** `=` is unpacked, `-` only downloaded. */
function barLine(layer: ShownLayer, width: number): string {
  const { digest, phase, size, downloaded, unpacked, bytesPerSecond } = layer;
  const cells = (bytes: number) =>
    isOver(layer) ? width : size <= 0 ? 0 : Math.round(Math.min(1, bytes / size) * width);
  const onDisk = cells(unpacked);
  const here = Math.max(onDisk, cells(downloaded));
  const bar = `${'='.repeat(onDisk)}${'-'.repeat(here - onDisk)}${' '.repeat(width - here)}`;
  const speed = bytesPerSecond > 0 ? `${formatBytes(bytesPerSecond)}/s` : '';
  return `${short(digest)} [${bar}] ${formatBytes(size).padStart(8)} ${speed.padStart(10)} ${phase}`;
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
