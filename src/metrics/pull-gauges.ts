import type * as prom from 'prom-client';
import type { Gauge, Registry } from 'prom-client';
import type { LayerProgress, PullProgress } from '../image/pull-progress.ts';

type PromClient = typeof prom;

/** More pulls or moving layers than this at once are counted, but not shown one by one. */
const maxShown = 100;

/**
 * Progress of the pulls that run while somebody scrapes: our own, named `crio_ts_*`. Set anew at each scrape from what
 * runs, so a series ends with its pull. Of layers only those that move are shown, at most four for each pull.
 */
export function createPullGauges(options: {
  readonly client: PromClient;
  readonly registry: Registry;
  readonly pulls: () => readonly PullProgress[];
}): void {
  const { client, registry, pulls } = options;
  const gauge = <L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[],
    fill: (gauge: Gauge<L>) => void,
  ): void => {
    void new client.Gauge({
      name: `crio_ts_${name}`,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        fill(this);
      },
    });
  };
  const perPull = (name: string, help: string, value: (pull: PullProgress) => number) =>
    gauge(name, help, ['image'], (metric) => {
      // Pulls of one name for several namespaces are one series.
      for (const pull of pulls().slice(0, maxShown)) metric.inc({ image: pull.reference }, value(pull));
    });
  const perLayer = (name: string, help: string, value: (layer: LayerProgress) => number) =>
    gauge(name, help, ['image', 'layer', 'phase', 'endpoint'], (metric) => {
      for (const { reference, layer } of movingLayers(pulls())) {
        const { digest, phase, endpoint } = layer;
        metric.inc({ image: reference, layer: digest, phase, endpoint }, value(layer));
      }
    });
  gauge('image_pulls_running', 'Image pulls that run now', [], (metric) => metric.set({}, pulls().length));
  perPull(
    'image_pull_bytes',
    'Size of the layers of a running pull, compressed',
    sumOf(({ sizeBytes }) => sizeBytes),
  );
  perPull(
    'image_pull_downloaded_bytes',
    'Bytes of a running pull that are here; of layers that were here before, all',
    sumOf((layer) => (isOver(layer) ? layer.sizeBytes : layer.downloadedBytes)),
  );
  perPull(
    'image_pull_unpacked_bytes',
    'Compressed bytes of a running pull whose content is on disk',
    sumOf((layer) => (isOver(layer) ? layer.sizeBytes : layer.unpackedBytes)),
  );
  perPull(
    'image_pull_bytes_per_second',
    'Speed of a running pull',
    sumOf(({ bytesPerSecond }) => bytesPerSecond),
  );
  perPull(
    'image_pull_start_time_seconds',
    'Start of a running pull since the epoch',
    ({ startedMs }) => startedMs / 1000,
  );
  gauge('image_pull_layers', 'Layers of a running pull by what happens to them', ['image', 'phase'], (metric) => {
    for (const { reference, layers } of pulls().slice(0, maxShown))
      for (const { phase } of layers) metric.inc({ image: reference, phase });
  });
  perLayer('image_pull_layer_bytes', 'Size of a layer that is being pulled, compressed', ({ sizeBytes }) => sizeBytes);
  perLayer(
    'image_pull_layer_downloaded_bytes',
    'Bytes of a layer that were downloaded',
    ({ downloadedBytes }) => downloadedBytes,
  );
  perLayer(
    'image_pull_layer_unpacked_bytes',
    'Compressed bytes of a layer whose content is on disk',
    ({ unpackedBytes }) => unpackedBytes,
  );
  perLayer(
    'image_pull_layer_bytes_per_second',
    'Speed of the download of a layer',
    ({ bytesPerSecond }) => bytesPerSecond,
  );
}

function sumOf(value: (layer: LayerProgress) => number): (pull: PullProgress) => number {
  return ({ layers }) => layers.reduce((sum, layer) => sum + value(layer), 0);
}

function isOver({ phase }: LayerProgress): boolean {
  return phase === 'done' || phase === 'exists';
}

function movingLayers(pulls: readonly PullProgress[]) {
  return pulls
    .flatMap(({ reference, layers }) => layers.map((layer) => ({ reference, layer })))
    .filter(({ layer: { phase } }) => phase === 'downloading' || phase === 'joined')
    .slice(0, maxShown);
}
