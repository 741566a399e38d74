import type { BenchImage } from './pull-image.ts';

type Measured = 'own' | 'podman' | 'skopeo' | 'tenRequests' | 'tenTags';

/** Medians of one file system's rounds; times in seconds. */
export interface PullFigures {
  readonly fileSystem: 'ext4' | 'tmpfs';
  /** `tenRequests`: one CRI request ten times at once; `tenTags`: ten tags of one image. */
  readonly seconds: Readonly<Record<Measured, number>>;
  readonly cpuSeconds: Readonly<Record<Measured, number>>;
  /** Of each round, as the machine may have changed between them. */
  readonly ratioPodman: number;
  readonly ratioSkopeo: number;
  readonly ratioTenRequests: number;
  readonly ratioTenTags: number;
  readonly listP50Ms: number;
  readonly listP99Ms: number;
  readonly listMaxMs: number;
  readonly listCalls: number;
  readonly idleMiB: number;
  readonly peakOverIdleMiB: number;
  readonly afterMinuteOverIdleMiB: number;
}

interface Row {
  readonly text: string;
  readonly value: (figures: PullFigures) => number;
  readonly digits: number;
  readonly atMost?: number;
}

const rows: readonly Row[] = [
  { text: 'crio-ts, PullImage (s)', value: (each) => each.seconds.own, digits: 2 },
  { text: 'podman pull (s)', value: (each) => each.seconds.podman, digits: 2 },
  { text: 'skopeo copy (s)', value: (each) => each.seconds.skopeo, digits: 2 },
  { text: 'crio-ts, PullImage, CPU (s)', value: (each) => each.cpuSeconds.own, digits: 2 },
  { text: 'podman pull, CPU (s)', value: (each) => each.cpuSeconds.podman, digits: 2 },
  { text: 'skopeo copy, CPU (s)', value: (each) => each.cpuSeconds.skopeo, digits: 2 },
  { text: 'crio-ts / podman', value: (each) => each.ratioPodman, digits: 2, atMost: 0.5 },
  { text: 'crio-ts / skopeo', value: (each) => each.ratioSkopeo, digits: 2, atMost: 0.5 },
  { text: 'ten requests at once (s)', value: (each) => each.seconds.tenRequests, digits: 2 },
  { text: 'ten tags at once (s)', value: (each) => each.seconds.tenTags, digits: 2 },
  { text: 'ten requests / one', value: (each) => each.ratioTenRequests, digits: 2, atMost: 1.1 },
  { text: 'ten tags / one', value: (each) => each.ratioTenTags, digits: 2, atMost: 1.1 },
  { text: 'ListContainers meanwhile, p50 (ms)', value: (each) => each.listP50Ms, digits: 1 },
  { text: 'ListContainers meanwhile, p99 (ms)', value: (each) => each.listP99Ms, digits: 1, atMost: 10 },
  { text: 'ListContainers meanwhile, longest (ms)', value: (each) => each.listMaxMs, digits: 1 },
  { text: 'ListContainers meanwhile, calls', value: (each) => each.listCalls, digits: 0 },
  { text: 'RSS idle (MiB)', value: (each) => each.idleMiB, digits: 0 },
  { text: 'RSS at its peak, over idle (MiB)', value: (each) => each.peakOverIdleMiB, digits: 0, atMost: 150 },
  { text: 'RSS a minute later, over idle (MiB)', value: (each) => each.afterMinuteOverIdleMiB, digits: 0, atMost: 20 },
];

/** For people: a column for each file system. */
export function printTable(image: BenchImage, all: readonly PullFigures[]): void {
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
  console.log(
    `\nimage: ${image.layers.length + 1} layers, ${image.files} files, ${megabytes(image.contentBytes)} MB, as gzip ${megabytes(image.blobBytes)} MB\n`,
  );
  console.log(
    line(
      '',
      all.map(({ fileSystem }) => fileSystem),
      'at most',
    ),
  );
  for (const { text, value, digits, atMost } of rows) {
    const cells = all.map((figures) => {
      const number = value(figures);
      return `${number.toFixed(digits)}${atMost !== undefined && number > atMost ? ' !' : '  '}`;
    });
    console.log(line(text, cells, atMost?.toString() ?? ''));
  }
}

function line(text: string, cells: readonly string[], last: string): string {
  return `  ${text.padEnd(40)}${cells.map((cell) => cell.padStart(12)).join('')}   ${last}`.trimEnd();
}

/** For programs: one line, of the file system that the daemon's folder usually is on. */
export function jsonLine(figures: PullFigures): string {
  const round = (value: number): number => Math.round(value * 1000) / 1000;
  return JSON.stringify({
    ratioPodman: round(figures.ratioPodman),
    ratioSkopeo: round(figures.ratioSkopeo),
    ratioTenAtOnce: round(Math.max(figures.ratioTenRequests, figures.ratioTenTags)),
    listP99Ms: round(figures.listP99Ms),
    peakRssOverIdleMiB: round(figures.peakOverIdleMiB),
    rssAfterMinuteOverIdleMiB: round(figures.afterMinuteOverIdleMiB),
    seconds: round(figures.seconds.own),
  });
}
