import { CrioError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import { digestOf } from './digest.ts';
import { foldKey, isObject, JsonReader, parseLooseJson, toPlain } from './json.ts';
import { mediaTypes } from './media-types.ts';
import { parseDigest } from './reference.ts';

/** Docker's first manifest format, read. Layers and history go from the lowest up. */
export interface Schema1Manifest {
  readonly kind: 'schema1';
  readonly mediaType: string;
  readonly steps: readonly Schema1Step[];
}

export interface Schema1Step {
  /** Undefined for a step that changed no file. */
  readonly blob: Digest | undefined;
  /** The v1 image document of this step. */
  readonly document: JsonReader;
}

/** A layer blob after it was read once. */
export interface MeasuredLayer {
  readonly digest: Digest;
  readonly size: number;
  readonly diffId: Digest;
}

/** The format does not name it; what a layer is compressed with is told by its first bytes. */
export const schema1LayerType = 'application/vnd.docker.image.rootfs.diff.tar.gzip';
const maxSteps = 1000;
/** Keys of a v1 document that have no place in an image config. */
const droppedKeys = new Set(['id', 'parent', 'Size', 'parent_id', 'layer_id', 'throwaway', 'rootfs', 'history']);

export function readSchema1(reader: JsonReader, mediaType: string): Schema1Manifest {
  for (const key of ['config', 'layers', 'manifests']) {
    if (reader.keys.some((own) => foldKey(own) === key)) {
      throw new CrioError(
        'invalid',
        `read manifest: ambiguous, it has the key ${JSON.stringify(key)} of another format`,
      );
    }
  }
  const blobs = reader.array('fsLayers');
  const history = reader.array('history');
  if (blobs.length === 0 || blobs.length !== history.length || blobs.length > maxSteps) {
    throw new CrioError('invalid', `read manifest: ${blobs.length} layers, but ${history.length} history entries`);
  }
  const steps = blobs.map((item, index) => {
    const path = `manifest.history[${index}]`;
    const text = new JsonReader(history[index], path).string('v1Compatibility') ?? '';
    const document = new JsonReader(parseLooseJson(Buffer.from(text), path), `${path}.v1Compatibility`);
    const blob = parseDigest(new JsonReader(item, `manifest.fsLayers[${index}]`).string('blobSum') ?? '');
    return { blob: document.boolean('throwaway') === true ? undefined : blob, document };
  });
  return { kind: 'schema1', mediaType, steps: steps.toReversed() };
}

/**
 * The bytes that a signed schema 1 manifest's digest is of: the document without its signatures, as their protected
 * headers describe it. Undefined for every other document.
 */
export function signedPayload(data: Buffer): Buffer | undefined {
  if (!data.includes('"signatures"') || !data.includes('"fsLayers"')) return undefined;
  const signatures = new JsonReader(parseLooseJson(data, 'manifest'), 'manifest').array('signatures');
  const first = signatures[0];
  if (!isObject(first)) return undefined;
  const text = new JsonReader(first, 'manifest.signatures[0]').string('protected') ?? '';
  const header = new JsonReader(parseLooseJson(Buffer.from(text, 'base64url'), 'signature header'), 'signature header');
  const length = header.integer('formatLength') ?? -1;
  if (length < 0 || length > data.length)
    throw new CrioError('invalid', 'read manifest: its signature describes another document');
  return Buffer.concat([data.subarray(0, length), Buffer.from(header.string('formatTail') ?? '', 'base64url')]);
}

/** The same image as a schema 2 manifest with its config. `layers` are those of the steps that have a blob, in order. */
export function convertSchema1(
  manifest: Schema1Manifest,
  layers: readonly MeasuredLayer[],
): { readonly config: Buffer; readonly data: Buffer } {
  const top = manifest.steps.at(-1)?.document;
  const base =
    top === undefined
      ? []
      : top.keys.filter((key) => !droppedKeys.has(key)).map((key) => [key, toPlain(top.raw(key) ?? null)]);
  const config = Buffer.from(
    JSON.stringify({
      ...Object.fromEntries(base),
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
      history: manifest.steps.map(historyOf),
    }),
  );
  const data = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.dockerManifest,
      config: { mediaType: mediaTypes.dockerConfig, size: config.length, digest: digestOf(config) },
      layers: layers.map(({ digest, size }) => ({
        mediaType: schema1LayerType,
        size,
        digest,
      })),
    }),
  );
  return { config, data };
}

function historyOf({ blob, document }: Schema1Step): object {
  const command = document.object('container_config')?.strings('Cmd') ?? [];
  const fields = {
    created: document.string('created'),
    author: document.string('author'),
    comment: document.string('comment'),
  };
  const known = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== ''));
  return { ...known, created_by: command.join(' '), ...(blob === undefined ? { empty_layer: true } : {}) };
}
