import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Call } from '../../base/call.ts';
import { messageOf } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import type { Logger } from '../../base/log.ts';
import { defaultConfig } from '../../config/config.ts';
import type { Config } from '../../config/config.ts';
import { createImages } from '../create-images.ts';
import type { ImageService } from '../create-images.ts';
import type { Credentials } from '../images.ts';
import type { PullObserver } from '../pull-progress.ts';
import type { TransportLimits } from '../registry/limits.ts';
import { startFakeRegistry } from './fake-registry.ts';
import type { FakeRegistry } from './fake-registry.ts';
import { createFakeStore } from './fake-store.ts';
import type { FakeStore } from './fake-store.ts';

const limits: TransportLimits = {
  connectMs: 1000,
  firstByteMs: 300,
  stallMs: 300,
  minBytesPerSecond: 0,
  windowMs: 1000,
  attempts: 4,
  backoffMs: 5,
  maxRetryAfterMs: 3000,
};

/** A registry and a store in memory with the image feature between them. */
export interface Bench extends AsyncDisposable {
  readonly registry: FakeRegistry;
  readonly store: FakeStore;
  readonly images: ImageService;
  /** For files of the test; removed at the end. */
  readonly dir: string;
  readonly policyFile: string;
  pull(
    name: string,
    options?: { credentials?: Partial<Credentials>; namespace?: string; signal?: AbortSignal },
  ): Promise<string>;
}

export interface BenchOptions {
  readonly toml?: (host: string) => string;
  readonly image?: (dir: string) => Partial<Config['image']>;
  readonly policy?: object;
  readonly authFiles?: readonly string[];
  readonly limits?: Partial<TransportLimits>;
  readonly additionalArtifactStores?: readonly string[];
  readonly log?: Logger;
  readonly onPull?: PullObserver;
}

export async function openBench(options: BenchOptions = {}): Promise<Bench> {
  const registry = await startFakeRegistry();
  const dir = await mkdtemp(join(tmpdir(), 'images-'));
  await mkdir(join(dir, 'registries.conf.d'));
  const store = createFakeStore(dir);
  const conf = join(dir, 'registries.conf');
  const policyFile = join(dir, 'policy.json');
  await writeFile(
    conf,
    options.toml?.(registry.host) ?? `[[registry]]\nlocation = "${registry.host}"\ninsecure = true\n`,
  );
  await writeFile(policyFile, JSON.stringify(options.policy ?? { default: [{ type: 'insecureAcceptAnything' }] }));
  const defaults = defaultConfig().image;
  const images = await createImages({
    store,
    log: options.log ?? silentLog,
    additionalArtifactStores: options.additionalArtifactStores ?? [],
    decryptionKeysPath: () => join(dir, 'keys'),
    ...(options.onPull && { onPull: options.onPull }),
    config: { image: { ...defaults, namespacedAuthDir: '', signaturePolicyDir: '', ...options.image?.(dir) } },
    places: {
      registries: { file: conf, dropInDirs: [join(dir, 'registries.conf.d')], aliasFile: '/nonexistent' },
      authFiles: options.authFiles ?? [],
      policyFiles: [policyFile],
      registriesD: [join(dir, 'registries.d')],
      certificateDirs: [],
      limits: { ...limits, ...options.limits },
    },
  });
  const blank: Credentials = { username: '', password: '', identityToken: '', registryToken: '', serverAddress: '' };
  return {
    registry,
    store,
    images,
    dir,
    policyFile,
    async pull(name, { credentials, namespace = '', signal } = {}) {
      const call = new Call({
        name: 'PullImage',
        id: 't',
        log: silentLog,
        ...(signal === undefined ? {} : { signal }),
      });
      const image = await images.pull(call, {
        reference: name,
        credentials: credentials === undefined ? undefined : { ...blank, ...credentials },
        namespace,
        cgroupParent: '',
      });
      return image.id;
    },
    async [Symbol.asyncDispose]() {
      await images[Symbol.asyncDispose]();
      await registry[Symbol.asyncDispose]();
      await rm(dir, { recursive: true });
    },
  };
}

/** Bytes that gzip cannot make smaller, the same ones each time. */
export function noise(length: number): Buffer {
  let state = 1;
  return Buffer.from(Array.from({ length }, () => (state = (state * 48271) % 2147483647) >> 8));
}

/** The text of the error that the promise must reject with. */
export async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return messageOf(error);
  }
  assert.fail('it succeeded');
}

export const testCall = new Call({ name: 'test', id: 't', log: silentLog });
export const basic = (user: string, password: string) =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
