import { chmod, mkdir } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { dirname } from 'node:path';
import { CertificateFiles } from '../base/certificate-files.ts';
import { messageOf, wrap } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { removeStaleSocket } from '../base/stale-socket.ts';
import { ensureCertificate } from './ensure-certificate.ts';
import type { MetricsSettings } from './settings.ts';

/** What a client of Prometheus may take to send its request, and a connection to lie idle. */
const limits = { headersTimeout: 10_000, requestTimeout: 10_000, keepAliveTimeout: 120_000 };
const socketMode = 0o660;
export interface ServeOptions {
  readonly settings: MetricsSettings;
  readonly scrape: () => Promise<{ readonly contentType: string; readonly body: string }>;
  readonly log: Logger;
}

/** `GET /metrics` on the address and, when there is one, on the socket. All is ended by the stack. */
export async function serveMetrics(stack: AsyncDisposableStack, options: ServeOptions): Promise<void> {
  const { settings, log } = options;
  const { host, port, socket, tls } = settings;
  if (tls !== undefined) await ensureCertificate(tls, [host], log);
  const certificate = tls === undefined ? undefined : new CertificateFiles(tls);
  const start = async (where: string, target: { host: string; port: number } | { path: string }) => {
    const server = createListener(options, certificate);
    try {
      await listen(server, target);
    } catch (error) {
      throw wrap(`serve metrics on ${where}`, error);
    }
    stack.defer(() => close(server));
    log.info(`Serving metrics on ${where} via ${certificate === undefined ? 'HTTP' : 'HTTPS'}`);
  };
  await start(`${host}:${port}`, { host, port });
  if (socket !== '') {
    await mkdir(dirname(socket), { recursive: true, mode: 0o755 });
    await removeStaleSocket(socket);
    await start(`"${socket}"`, { path: socket });
    await chmod(socket, socketMode);
  }
}

function createListener(options: ServeOptions, certificate: CertificateFiles | undefined): Server {
  const answer = answering(options);
  if (certificate === undefined) return createServer(limits, answer);
  const server = createTlsServer({ ...limits, ...certificate.options() }, answer);
  // Before the server's own listener, so that this connection has it already. Scrapers connect seldom.
  server.prependListener('connection', () =>
    certificate.reloadIfChanged((context) => server.setSecureContext(context), options.log),
  );
  return server;
}

function answering({ scrape, log }: ServeOptions): RequestListener {
  return (request, response) => {
    request.resume();
    const refuse = (status: number, text: string) =>
      response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
    if ((request.url ?? '').replace(/\?.*$/s, '') !== '/metrics') return void refuse(404, '404 page not found');
    scrape().then(
      ({ contentType, body }) => response.writeHead(200, { 'Content-Type': contentType }).end(body),
      (error: unknown) => {
        log.warn('collect metrics', error);
        refuse(500, messageOf(error));
      },
    );
  };
}

function listen(server: Server, target: { host: string; port: number } | { path: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(target, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

async function close(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}
