import { startFakeRegistry } from '../../src/image/testing/fake-registry.ts';
import { putArtifact as putFiles, putImage } from '../../src/image/testing/fake-registry.ts';
import type { FakeRegistry } from '../../src/image/testing/fake-registry.ts';
import { busyboxEntries, withParents } from '../fixtures/debian.ts';
import { writeTar } from '../fixtures/tar.ts';
import { write } from '../run/node-files.ts';

/** A registry in this process that serves what a test makes; the daemon, started afterwards, reaches it over HTTP. */
export async function startMadeRegistry(): Promise<FakeRegistry> {
  const registry = await startFakeRegistry();
  write(
    '/etc/containers/registries.conf.d/made.conf',
    `[[registry]]\nlocation = "${registry.host}"\ninsecure = true\n`,
  );
  return registry;
}

/** The layer that makes containers runnable; made once. */
export const shellLayer: Buffer = writeTar(
  withParents([
    ...busyboxEntries('/bin/busybox'),
    { type: 'directory', path: 'tmp', mode: 0o1777 },
    { type: 'directory', path: 'proc' },
  ]),
);

/** Puts an image of the shell, these layers on it, and this configuration; returns its name. */
export function putShellImage(
  registry: FakeRegistry,
  tag: string,
  options: { readonly layers?: readonly Buffer[]; readonly config?: object } = {},
): string {
  const layers = [shellLayer, ...(options.layers ?? [])];
  putImage(registry, 'made', tag, { layers, config: { Env: ['PATH=/bin'], ...options.config } });
  return `${registry.host}/made:${tag}`;
}

/** Puts an OCI artifact whose blobs have these titles; returns its name. */
export function putArtifact(registry: FakeRegistry, tag: string, files: Readonly<Record<string, string>>): string {
  putFiles(registry, 'artifact', tag, files);
  return `${registry.host}/artifact:${tag}`;
}
