import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { run } from '../../test/fixtures/process.ts';
import { makeCertificates, startSecureRegistry } from '../../test/fixtures/secure-registry.ts';
import type { SecureRegistry } from '../../test/fixtures/secure-registry.ts';

/** Not a loopback address: those are never asked for through a proxy. */
const address = '10.99.0.1';
const folder = mkdtempSync(join(tmpdir(), 'proxies-'));
const seen: { readonly line: string; readonly authorization: string | undefined }[] = [];
let registries: Readonly<Record<'https' | 'http', SecureRegistry>>;
let proxy: Server;
let proxyUrl: string;

before(async () => {
  run('ip', ['address', 'add', `${address}/32`, 'dev', 'lo']);
  mkdirSync(join(folder, 'registry'));
  const { authority, server } = makeCertificates(folder, address);
  const https = await startSecureRegistry(folder, {
    address,
    http: { tls: { certificate: server.cert, key: server.key } },
  });
  registries = { https, http: await startSecureRegistry(folder, { address }) };
  writeFileSync(join(folder, 'ask.ts'), script(authority));
  proxy = startProxy();
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const { port } = proxy.address() as AddressInfo; // a TCP server has no other kind
  proxyUrl = `http://user:secret@127.0.0.1:${port}`;
});

after(async () => {
  proxy.closeAllConnections();
  proxy.close();
  await registries.https[Symbol.asyncDispose]();
  await registries.http[Symbol.asyncDispose]();
  run('ip', ['address', 'delete', `${address}/32`, 'dev', 'lo']);
  rmSync(folder, { recursive: true });
});

describe('proxies, as skopeo uses them', () => {
  const rows: readonly (readonly [scheme: 'https' | 'http', env: Record<string, string>, asks: boolean])[] = [
    ['https', { HTTPS_PROXY: 'URL' }, true],
    ['https', { https_proxy: 'URL' }, true],
    ['https', { HTTP_PROXY: 'URL' }, false],
    ['http', { HTTP_PROXY: 'URL' }, true],
    // TLS is tried first with an insecure registry.
    ['http', { HTTPS_PROXY: 'URL' }, true],
    ['https', { HTTPS_PROXY: 'URL', NO_PROXY: 'quay.io' }, true],
    ['https', { HTTPS_PROXY: 'URL', NO_PROXY: address }, false],
    ['https', { HTTPS_PROXY: 'URL', NO_PROXY: 'quay.io, 10.96.0.0/12,.svc' }, false],
    ['https', { HTTPS_PROXY: 'URL', NO_PROXY: '10.96.0.0/16' }, true],
    ['https', { HTTPS_PROXY: 'URL', no_proxy: 'PORT' }, false],
    ['https', { HTTPS_PROXY: 'URL', NO_PROXY: '*' }, false],
  ];
  for (const [scheme, env, asks] of rows) {
    it(`${scheme} with ${JSON.stringify(env)} ${asks ? 'asks' : 'does not ask'} the proxy`, async () => {
      const { host } = registries[scheme];
      const values = Object.entries(env).map(
        ([key, value]) => [key, value.replace('URL', proxyUrl).replace('PORT', host)] as const,
      );
      const clean = { PATH: process.env['PATH'] ?? '', HOME: folder, ...Object.fromEntries(values) };
      assert.equal(await asked(() => ours(scheme, host, clean)), asks, 'by us');
      assert.equal(await asked(() => skopeo(host, clean)), asks, 'by skopeo');
    });
  }

  it('opens a tunnel for TLS, and shows the name and password of the proxy to it alone', async () => {
    const { host } = registries.https;
    await asked(() => ours('https', host, { PATH: process.env['PATH'] ?? '', HTTPS_PROXY: proxyUrl }));
    assert.equal(seen[0]?.line, `CONNECT ${host}`);
    assert.equal(seen[0].authorization, `Basic ${Buffer.from('user:secret').toString('base64')}`);
  });
});

async function asked(act: () => Promise<void>): Promise<boolean> {
  seen.length = 0;
  await act();
  return seen.length > 0;
}

/** A process of its own, as the environment is read from the process. */
async function ours(scheme: 'https' | 'http', host: string, env: NodeJS.ProcessEnv): Promise<void> {
  const output = await runAsync(process.execPath, [join(folder, 'ask.ts'), host, scheme], env);
  assert.equal(output.trim(), '200');
}

/** That it finds no image is its answer; whom it asked is what counts. */
async function skopeo(host: string, env: NodeJS.ProcessEnv): Promise<void> {
  await runAsync('skopeo', ['inspect', '--tls-verify=false', '--raw', `docker://${host}/a:1`], env);
}

function script(authority: string): string {
  const path = (name: string): string => JSON.stringify(join(import.meta.dirname, name));
  const certs = join(folder, 'certs.d');
  return `
    import { copyFileSync, mkdirSync } from 'node:fs';
    import { Endpoints } from ${path('registry/endpoints.ts')};
    import { defaultLimits } from ${path('registry/limits.ts')};
    import { silentLog } from ${path('../base/log.ts')};
    const [host, scheme] = process.argv.slice(2);
    mkdirSync('${certs}/' + host, { recursive: true });
    copyFileSync('${authority}', '${certs}/' + host + '/ca.crt');
    using endpoints = new Endpoints({ limits: defaultLimits, certificateDirs: ['${certs}'], log: silentLog });
    const response = await endpoints.get(host, scheme === 'http').send({ target: '/v2/', signal: AbortSignal.timeout(5000) });
    console.log(response.status);
    response.discard();`;
}

/** Takes whole URLs and CONNECT, as an HTTP proxy does. */
function startProxy(): Server {
  const note = (line: string, authorization: string | undefined) => seen.push({ line, authorization });
  const server = createServer((request, response) => {
    note(`${request.method} ${request.url}`, request.headers['proxy-authorization']);
    const url = new URL(request.url ?? '');
    const upstream = connect(Number(url.port), url.hostname, () => {
      upstream.write(`GET ${url.pathname} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n\r\n`);
      upstream.pipe(response.socket ?? upstream);
    });
    upstream.on('error', () => response.destroy());
  });
  server.on('connect', (request, socket) => {
    note(`CONNECT ${request.url}`, request.headers['proxy-authorization']);
    const [host, port] = (request.url ?? '').split(':');
    const upstream = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.pipe(socket);
      socket.pipe(upstream);
    });
    upstream.on('error', () => socket.destroy());
    socket.on('error', () => upstream.destroy());
  });
  return server;
}

/** This process goes on serving meanwhile. */
async function runAsync(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'ignore'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await new Promise((resolve) => child.once('close', resolve));
  return output;
}
