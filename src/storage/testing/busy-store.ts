/** A program that the crash test kills: it changes the store that its argument names, without end. */
import { stderrSink, Logger } from '../../base/log.ts';
import { openStore } from '../open-store.ts';
import { buildImage, storeImage } from './build-image.ts';

const base = process.argv[2] ?? '';
const roots = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '' };
const store = await openStore({ ...roots, driver: 'overlay', options: [], log: new Logger(stderrSink('error')) });
process.stdout.write('open\n');
await Promise.all([imagesForEver(), containersForEver(1), containersForEver(2)]);

async function imagesForEver(): Promise<void> {
  for (let round = 0; ; round = (round + 1) % 5) {
    const layers = [0, 1, 2].map((layer) => [{ name: `f${layer}`, data: Buffer.alloc(20_000, `${round}-${layer}`) }]);
    const image = buildImage(layers);
    await storeImage(store, image, `example.org/image:${round}`);
    if (round % 2 === 0) await store.images.delete(image.id).catch(() => undefined);
  }
}

async function containersForEver(worker: number): Promise<void> {
  for (let round = 0; ; round++) {
    const [image] = await store.images.list();
    const id = `${worker}${round % 10}`.repeat(32);
    await store.containers.delete(id);
    const names = [`c${worker}-${round % 10}`];
    const rest = { metadata: '', mountLabel: '', uidMap: [], gidMap: [] };
    try {
      await store.containers.create({ id, names, layerName: `${names[0]}-layer`, imageId: image?.id ?? '', ...rest });
      await store.containers.mount(id);
    } catch {
      // The image was deleted meanwhile.
    }
    if (round % 3 === 0) await store.containers.unmount(id);
  }
}
