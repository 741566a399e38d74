import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import type { Digest } from '../../base/ids.ts';
import { digestOf } from '../digest.ts';
import { mediaTypes } from '../media-types.ts';

/** A registry in memory for tests; `handle` may answer first and misbehave. */
export interface FakeRegistry extends AsyncDisposable {
  /** `127.0.0.1:port` */
  readonly host: string;
  /** `METHOD /path`, in order. */
  readonly requests: readonly {
    readonly line: string;
    readonly authorization: string | undefined;
    readonly range: string | undefined;
  }[];
  readonly blobs: Map<string, Buffer>;
  /** By `repository tag` or `repository digest`. */
  readonly manifests: Map<string, { readonly data: Buffer; readonly contentType: string }>;
  /** Returns true when it has answered. */
  handle: (request: IncomingMessage, response: ServerResponse) => boolean;
  putManifest(repository: string, tag: string, manifest: object, contentType?: string): Digest;
  putBlob(data: Buffer): { digest: Digest; size: number };
}

export async function startFakeRegistry(): Promise<FakeRegistry> {
  const requests: { line: string; authorization: string | undefined; range: string | undefined }[] = [];
  const server = createServer((request, response) => {
    requests.push({
      line: `${request.method} ${request.url}`,
      authorization: request.headers.authorization,
      range: request.headers.range,
    });
    if (!registry.handle(request, response)) serve(registry, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const registry: FakeRegistry = {
    host: `127.0.0.1:${portOf(server)}`,
    requests,
    blobs: new Map(),
    manifests: new Map(),
    handle: () => false,
    putManifest(repository, tag, manifest, contentType = mediaTypes.ociManifest) {
      const data = Buffer.from(JSON.stringify(manifest));
      const digest = digestOf(data);
      for (const key of [tag, digest]) registry.manifests.set(`${repository} ${key}`, { data, contentType });
      return digest;
    },
    putBlob(data) {
      const digest = digestOf(data);
      registry.blobs.set(digest, data);
      return { digest, size: data.length };
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return registry;
}

export interface FakeImage {
  readonly manifest: {
    readonly schemaVersion: 2;
    readonly mediaType: string;
    readonly config: object;
    readonly layers: readonly object[];
  };
  readonly manifestDigest: Digest;
  readonly id: string;
  readonly layerDigests: readonly Digest[];
}

/** Puts an image with these layer contents (not real tar files) under a tag. */
export function putImage(
  registry: FakeRegistry,
  repository: string,
  tag: string,
  options: { readonly layers?: readonly Buffer[]; readonly config?: object; readonly architecture?: string } = {},
): FakeImage {
  const contents = options.layers ?? [Buffer.from(`layer of ${repository}:${tag}`)];
  const blobs = contents.map((content) => registry.putBlob(gzipSync(content)));
  const config = Buffer.from(
    JSON.stringify({
      architecture: options.architecture ?? 'amd64',
      os: 'linux',
      created: '2024-01-02T03:04:05Z',
      config: { Cmd: ['sh'], Env: ['PATH=/bin'], ...options.config },
      rootfs: { type: 'layers', diff_ids: contents.map((content) => digestOf(content)) },
    }),
  );
  const configBlob = registry.putBlob(config);
  const manifest = {
    schemaVersion: 2 as const,
    mediaType: mediaTypes.ociManifest,
    config: { mediaType: mediaTypes.ociConfig, ...configBlob },
    layers: blobs.map((blob) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', ...blob })),
  };
  const manifestDigest = registry.putManifest(repository, tag, manifest);
  return {
    manifest,
    manifestDigest,
    id: configBlob.digest.slice('sha256:'.length),
    layerDigests: blobs.map(({ digest }) => digest),
  };
}

function serve(registry: FakeRegistry, request: IncomingMessage, response: ServerResponse): void {
  const path = request.url ?? '/';
  if (path === '/v2/') {
    response.end('{}');
    return;
  }
  const [, repository = '', kind, key = ''] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/?]+)$/.exec(path) ?? [];
  if (kind === 'manifests') {
    const manifest = registry.manifests.get(`${repository} ${key}`);
    if (manifest === undefined) sendError(response, 404, 'MANIFEST_UNKNOWN', 'manifest unknown');
    else
      response
        .writeHead(200, { 'Content-Type': manifest.contentType, 'Docker-Content-Digest': digestOf(manifest.data) })
        .end(manifest.data);
    return;
  }
  const blob = registry.blobs.get(key);
  if (blob === undefined) {
    sendError(response, 404, 'BLOB_UNKNOWN', 'blob unknown to registry');
    return;
  }
  const start = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1];
  if (start === undefined) response.writeHead(200, { 'Content-Length': blob.length }).end(blob);
  else
    response
      .writeHead(206, { 'Content-Range': `bytes ${start}-${blob.length - 1}/${blob.length}` })
      .end(blob.subarray(Number(start)));
}

export function sendError(
  response: ServerResponse,
  status: number,
  code: string,
  message: string,
  headers: Record<string, string> = {},
): void {
  response
    .writeHead(status, { 'Content-Type': 'application/json', ...headers })
    .end(JSON.stringify({ errors: [{ code, message, detail: null }] }));
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port; // a TCP server has no other kind of address
}

/** Puts an OCI artifact whose blobs have these titles; returns its digest. */
export function putArtifact(
  registry: FakeRegistry,
  repository: string,
  tag: string,
  files: Readonly<Record<string, string>>,
): Digest {
  const layers = Object.entries(files).map(([title, content]) => ({
    mediaType: 'text/plain',
    ...registry.putBlob(Buffer.from(content)),
    annotations: { 'org.opencontainers.image.title': title },
  }));
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', ...registry.putBlob(Buffer.from('{}')) };
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    artifactType: 'application/x.test',
    config,
    layers,
  };
  return registry.putManifest(repository, tag, manifest);
}

/** Puts an image of one layer in Docker's schema 1, unsigned; `tar` is its content. */
export function putSchema1(registry: FakeRegistry, repository: string, tag: string, tar: Buffer): void {
  const layer = registry.putBlob(gzipSync(tar));
  const empty = registry.putBlob(gzipSync(Buffer.alloc(1024)));
  const v1 = (more: object) => ({ v1Compatibility: JSON.stringify({ architecture: 'amd64', os: 'linux', ...more }) });
  const manifest = {
    schemaVersion: 1,
    name: repository,
    tag,
    architecture: 'amd64',
    fsLayers: [{ blobSum: empty.digest }, { blobSum: layer.digest }],
    history: [
      v1({ id: 'b', parent: 'a', throwaway: true, config: { Cmd: ['sh'], Env: ['PATH=/bin'] } }),
      v1({ id: 'a', container_config: { Cmd: ['add'] } }),
    ],
  };
  registry.putManifest(repository, tag, manifest, mediaTypes.dockerSchema1);
}
