import { CrioError } from '../base/errors.ts';
import { parseTimeNs } from '../base/clock.ts';
import type { Digest } from '../base/ids.ts';
import type { ImageConfig } from './images.ts';
import { JsonReader, parseLooseJson, toPlain } from './json.ts';
import { parseDigest } from './reference.ts';

export interface ImageDocument {
  readonly config: ImageConfig;
  /** Digests of the uncompressed layers, lowest first. */
  readonly diffIds: readonly Digest[];
  /** Undefined when the config names no time, or none that can be read. */
  readonly createdNs: bigint | undefined;
}

/** Reads an OCI or Docker image config. Everything is checked and copied; throws `invalid` naming the field. */
export function parseImageConfig(data: Uint8Array): ImageDocument {
  const json = parseLooseJson(data, 'image config');
  const reader = new JsonReader(json, 'image config');
  const run = reader.object('config') ?? new JsonReader(new Map(), 'image config.config');
  const config: ImageConfig = {
    user: clean(run.string('User'), 'User'),
    env: cleanAll(run.strings('Env'), 'Env'),
    entrypoint: cleanAll(readCommand(run, 'Entrypoint'), 'Entrypoint'),
    cmd: cleanAll(readCommand(run, 'Cmd'), 'Cmd'),
    workingDir: clean(run.string('WorkingDir'), 'WorkingDir'),
    labels: run.stringMap('Labels'),
    stopSignal: clean(run.string('StopSignal'), 'StopSignal'),
    volumes: cleanAll(run.object('Volumes')?.keys ?? [], 'Volumes'),
    architecture: reader.string('architecture') ?? '',
    os: reader.string('os') ?? '',
    document: toPlain(json),
  };
  const created = reader.string('created');
  return { config, diffIds: readDiffIds(reader), createdNs: created === undefined ? undefined : parseTimeNs(created) };
}

/** Docker wrote a plain string here in its first years. */
function readCommand(run: JsonReader, key: string): readonly string[] {
  const value = run.raw(key);
  return typeof value === 'string' ? (value === '' ? [] : [value]) : run.strings(key);
}

function readDiffIds(reader: JsonReader): readonly Digest[] {
  const ids = reader.object('rootfs')?.strings('diff_ids') ?? [];
  return ids.map((text) => {
    const digest = parseDigest(text);
    if (!digest.startsWith('sha256:'))
      throw new CrioError('invalid', `image config.rootfs.diff_ids: ${digest} is not a sha256 digest`);
    return digest;
  });
}

function clean(text: string | undefined, field: string): string {
  if (text?.includes('\0') === true)
    throw new CrioError('invalid', `image config.config.${field}: contains a NUL character`);
  return text ?? '';
}

function cleanAll(texts: readonly string[], field: string): readonly string[] {
  for (const text of texts) clean(text, field);
  return texts;
}
