import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SecureContextOptions, TlsOptions } from 'node:tls';
import { tcpTraffic } from '../sys/tcp-traffic.ts';
import type { Refusal } from './negotiation.ts';

/** Time for a client to send the head of its request. */
const headersLimitMs = 30_000;
const keepAliveMs = 30_000;
/** Connections without a session. */
const maxWaiting = 2000;
/** For a client to take a refusal of its upgrade, and to close. */
const refusalLimitMs = 10_000;
/** For clients to take the last bytes when the server ends. */
const flushLimitMs = 500;

/** A connection whose request asks for an upgrade. */
export interface UpgradeRequest {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** Bytes that the client has sent and taken. */
  readonly traffic: () => number;
  /** What came after the request's head already. */
  readonly head: Buffer;
}

export interface StreamServerOptions {
  readonly host: string;
  readonly port: number;
  readonly tls: TlsOptions | undefined;
  /** Called for each connection before its handshake; may set the certificate. */
  readonly beforeConnection: () => void;
  /** For requests without an upgrade: why there is none. */
  readonly refuse: (request: IncomingMessage) => Refusal;
  /** False when it has been refused. */
  readonly upgrade: (upgrade: UpgradeRequest) => boolean;
}

export interface StreamServer extends AsyncDisposable {
  /** `http://127.0.0.1:40123`, with the address it really listens on. */
  readonly baseUrl: string;
  /** For new connections. */
  setCertificate(context: SecureContextOptions): void;
}

/** The HTTP/1.1 server of the URLs that Exec, Attach and PortForward answer with. */
export async function listenForStreams(options: StreamServerOptions): Promise<StreamServer> {
  const limits = { headersTimeout: headersLimitMs, requestTimeout: headersLimitMs, handshakeTimeout: headersLimitMs };
  const secure =
    options.tls === undefined ? undefined : createTlsServer({ ...limits, ...options.tls, ALPNProtocols: ['http/1.1'] });
  const server: Server | TlsServer = secure ?? createServer(limits);
  const upgraded = new Set<Duplex>();
  // Before the server's own listener, which takes the certificate for this connection.
  secure?.prependListener('connection', options.beforeConnection);
  const waiting = new WaitingConnections(server);
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    request.resume();
    const { status, body, headers = [] } = options.refuse(request);
    for (const [name, value] of headers) response.appendHeader(name, value);
    response.statusCode = status;
    response.end(body);
  });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    upgraded.add(socket);
    socket.once('close', () => upgraded.delete(socket));
    // Not `socket`: with a request that has a body, that is no socket.
    const connection = request.socket;
    connection.setTimeout(0);
    connection.setNoDelay(true);
    // A client whose machine has gone says nothing more.
    connection.setKeepAlive(true, keepAliveMs);
    if (options.upgrade({ request, socket, head, traffic: () => tcpTraffic(connection) })) waiting.leave(connection);
  });
  await listen(server, options);
  return {
    baseUrl: `${options.tls === undefined ? 'http' : 'https'}://${hostAndPort(server.address())}`,
    setCertificate(context) {
      secure?.setSecureContext(context);
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      // The HTTP server does not know these any more, but waits for them. Those that have ended may still have to send.
      for (const socket of upgraded) if (!socket.writableEnded) socket.destroy();
      await Promise.race([closed, sleep(flushLimitMs, undefined, { ref: false })]);
      for (const socket of upgraded) socket.destroy();
      await closed;
    },
  };
}

/**
 * Whoever reaches the port may connect without any token. There are at most half as many tokens as places, so only a flood
 * fills them, and then those that have waited longest go. It begins before a TLS handshake, and ends with a session.
 */
class WaitingConnections {
  /** By both addresses: a TLS socket does not tell which connection it is of. The oldest come first. */
  readonly #sockets = new Map<string, Socket>();

  constructor(server: Server | TlsServer) {
    server.on('connection', (socket: Socket) => this.#add(socket));
  }

  #add(socket: Socket): void {
    const addresses = addressesOf(socket);
    this.#sockets.get(addresses)?.destroy();
    this.#sockets.set(addresses, socket);
    socket.once('close', () => {
      if (this.#sockets.get(addresses) === socket) this.#sockets.delete(addresses);
    });
    const [oldest] = this.#sockets;
    if (this.#sockets.size <= maxWaiting || oldest === undefined) return;
    this.#sockets.delete(oldest[0]);
    oldest[1].destroy();
  }

  leave(socket: Socket): void {
    this.#sockets.delete(addressesOf(socket));
  }
}

function addressesOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}

function listen(server: Server, { host, port }: StreamServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function hostAndPort(address: string | AddressInfo | null): string {
  if (address === null || typeof address === 'string') throw new TypeError('a stream server without an address');
  return address.family === 'IPv6' ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`;
}

/** Answers a request for an upgrade with something else, and closes; what the client still sends is dropped. */
export function refuseUpgrade(socket: Duplex, { status, body, headers = [] }: Refusal): void {
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    'Content-Type: text/plain; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
    ...headers.map(([name, value]) => `${name}: ${value}`),
  ];
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`);
  // Nobody reads it otherwise, and so nobody would learn of its end.
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), refusalLimitMs);
  socket.once('close', () => clearTimeout(timer));
}

/** The answer to a SPDY upgrade. Nothing may follow before the client's first frame: it would be thrown away. */
export function acceptSpdy({ socket, head }: UpgradeRequest, protocol: string): Duplex {
  const lines = [
    'HTTP/1.1 101 Switching Protocols',
    'Connection: Upgrade',
    'Upgrade: SPDY/3.1',
    `X-Stream-Protocol-Version: ${protocol}`,
  ];
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  if (head.length > 0) socket.unshift(head);
  return socket;
}
