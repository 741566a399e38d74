import { request as httpRequest } from 'node:http';
import type { Agent as HttpAgent, ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { CrioError } from '../../base/errors.ts';
import type { TransportLimits } from './limits.ts';
import { giveBackReceived } from './received-memory.ts';

export interface HttpRequest {
  readonly url: URL;
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Holds the connections and their TLS settings. */
  readonly agent: HttpAgent;
  readonly lookup: LookupFunction;
  readonly limits: TransportLimits;
  readonly signal: AbortSignal;
  /** Told when the body was ended for being silent or too slow. */
  readonly onTooSlow?: (reason: string) => void;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** What answered, after redirects. */
  readonly url: URL;
  /** The body as it arrives. Leaving the loop early ends the connection. Can be read once. */
  readonly body: AsyncIterable<Buffer>;
  /** Ends the connection without reading on. */
  discard(): void;
}

/** One request and its answer, up to the headers. Throws `deadline` for a budget that ran out, else Node's error. */
export function sendRequest(options: HttpRequest): Promise<HttpResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpResponse>();
  const { url, limits } = options;
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  const request = send(url, {
    method: options.method,
    headers: { 'Accept-Encoding': 'identity', ...options.headers },
    agent: options.agent,
    lookup: options.lookup,
    signal: options.signal,
  });
  const timer = new PhaseTimer(request);
  timer.start(limits.connectMs, `no connection to ${url.host} within ${seconds(limits.connectMs)}`);
  const waitForAnswer = () =>
    timer.start(limits.firstByteMs, `no answer from ${url.host} within ${seconds(limits.firstByteMs)}`);
  request.on('socket', (socket) => whenConnected(socket, waitForAnswer));
  request.on('error', (error) => {
    timer.stop();
    reject(error);
  });
  request.on('response', (response) => {
    timer.stop();
    giveBackReceived(response);
    resolve({
      status: response.statusCode ?? 0,
      headers: response.headers,
      url,
      body: readBody(response, options),
      discard: () => response.destroy(),
    });
    // A body that nobody reads any more must not crash the process when its connection breaks.
    response.on('error', () => {});
  });
  request.end(options.body);
  return promise;
}

/** The whole body, at most `limit` bytes. */
export async function readAll(response: HttpResponse, limit: number, what: string): Promise<Buffer> {
  const announced = Number(response.headers['content-length'] ?? 0);
  if (announced > limit) {
    response.discard();
    throw tooLarge(what, limit);
  }
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response.body) {
    size += chunk.length;
    if (size > limit) throw tooLarge(what, limit);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function tooLarge(what: string, limit: number): CrioError {
  return new CrioError('resource-exhausted', `read ${what}: more than ${limit} bytes`);
}

class PhaseTimer {
  readonly #request: ClientRequest;
  #timer: NodeJS.Timeout | undefined;

  constructor(request: ClientRequest) {
    this.#request = request;
  }

  /** Ends the request with this message unless another phase starts in time. */
  start(ms: number, message: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#request.destroy(new CrioError('deadline', message)), ms);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

function whenConnected(socket: Duplex & { readonly connecting?: boolean }, then: () => void): void {
  if (socket instanceof TLSSocket && (socket.connecting || socket.getProtocol() === null)) {
    socket.once('secureConnect', then);
  } else if (socket.connecting === true) {
    socket.once('connect', then);
  } else {
    then();
  }
}

/** Hands on the body and ends it when the network is silent or too slow. Time the consumer takes does not count. */
async function* readBody(
  response: IncomingMessage,
  { url, limits, onTooSlow }: HttpRequest,
): AsyncGenerator<Buffer, void, undefined> {
  const watch = new StallWatch(limits, (message) => {
    const error = new CrioError('deadline', `${url.host}: ${message}`);
    onTooSlow?.(error.message);
    response.destroy(error);
  });
  const chunks: AsyncIterator<Buffer> = response[Symbol.asyncIterator]();
  try {
    for (;;) {
      watch.waiting();
      const next = await chunks.next();
      if (next.done === true) return;
      watch.received(next.value.length);
      yield next.value;
    }
  } finally {
    watch.stop();
    // Without this, leaving the loop early would leave the connection open and half read.
    if (!response.readableEnded) response.destroy();
  }
}

class StallWatch {
  readonly #limits: TransportLimits;
  readonly #end: (message: string) => void;
  readonly #timer: NodeJS.Timeout;
  #waitingSinceMs: number | undefined;
  #windowMs = 0;
  #windowBytes = 0;

  constructor(limits: TransportLimits, end: (message: string) => void) {
    this.#limits = limits;
    this.#end = end;
    this.#timer = setInterval(() => this.#check(), Math.max(10, Math.min(1000, limits.stallMs / 4)));
    this.#timer.unref();
  }

  waiting(): void {
    this.#waitingSinceMs = performance.now();
  }

  received(bytes: number): void {
    if (this.#waitingSinceMs !== undefined) this.#windowMs += performance.now() - this.#waitingSinceMs;
    this.#waitingSinceMs = undefined;
    this.#windowBytes += bytes;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #check(): void {
    const { stallMs, windowMs, minBytesPerSecond } = this.#limits;
    const waitedMs = this.#waitingSinceMs === undefined ? 0 : performance.now() - this.#waitingSinceMs;
    if (waitedMs > stallMs) {
      this.#end(`no data for ${seconds(stallMs)}`);
    } else if (this.#windowMs + waitedMs >= windowMs) {
      const rate = (this.#windowBytes * 1000) / (this.#windowMs + waitedMs);
      if (rate < minBytesPerSecond) this.#end(`only ${Math.round(rate)} bytes a second over ${seconds(windowMs)}`);
      this.#windowMs = 0;
      this.#windowBytes = 0;
      if (this.#waitingSinceMs !== undefined) this.#waitingSinceMs = performance.now();
    }
  }
}

function seconds(ms: number): string {
  return `${Number((ms / 1000).toFixed(1))} s`;
}
