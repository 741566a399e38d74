import { tarSplitPath } from '../paths.ts';
import type { CheckContext, KnownLayer } from './find-damage.ts';
import type { LayerFault, LayerToVerify } from './verify-layer.ts';

/** What is wrong with the content of a layer; undefined also when it has nothing to be compared with. */
export async function contentFault(
  { state, driver }: CheckContext,
  { record, isPlain }: KnownLayer,
  verify: (layer: LayerToVerify) => Promise<LayerFault | undefined>,
): Promise<LayerFault | undefined> {
  const { id, diffDigest } = record;
  if (!isPlain || diffDigest?.startsWith('sha256:') !== true) return undefined;
  const diffFolder = await driver.plainContent(id);
  if (diffFolder === undefined) return undefined;
  const tarSplit = tarSplitPath(state.paths.layers, id);
  const hasWhiteouts = driver.name === 'overlay';
  return verify({ diffFolder, tarSplit, diffDigest, hasWhiteouts });
}
