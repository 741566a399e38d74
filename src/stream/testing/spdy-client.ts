import { request as httpRequest, type OutgoingHttpHeaders, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import type { SecureContextOptions } from 'node:tls';
import { constants, deflateRawSync } from 'node:zlib';
import { dictionary } from '../spdy/dictionary.ts';
import {
  dataHead,
  FrameParser,
  goAwayFrame,
  pingFrame,
  rstStreamFrame,
  synStreamFrame,
  type Frame,
} from '../spdy/frames.ts';
import { HeaderDecoder, zlibHead } from '../spdy/header-block.ts';

/** Compresses header blocks as a client does: one zlib stream per connection. */
export class HeaderEncoder {
  #window = dictionary;
  #isFirst = true;

  encode(headers: Readonly<Record<string, string>>): Buffer {
    return this.encodeBlock(serializeHeaders(Object.entries(headers)));
  }

  encodeBlock(block: Buffer): Buffer {
    const deflated = deflateRawSync(block, { dictionary: this.#window, finishFlush: constants.Z_SYNC_FLUSH });
    this.#window = Buffer.concat([this.#window, block]).subarray(-32768);
    const wasFirst = this.#isFirst;
    this.#isFirst = false;
    return wasFirst ? Buffer.concat([zlibHead, deflated]) : deflated;
  }
}

export function serializeHeaders(headers: readonly (readonly [string, string])[]): Buffer {
  const parts: Buffer[] = [uint32(headers.length)];
  for (const text of headers.flat()) {
    const bytes = Buffer.from(text, 'latin1');
    parts.push(uint32(bytes.length), bytes);
  }
  return Buffer.concat(parts);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** What a test has seen of one stream. */
export interface ClientStream {
  readonly id: number;
  readonly replied: Promise<void>;
  /** All data, at the stream's end or reset. */
  readonly text: Promise<string>;
  received: number;
  send(data: string | Uint8Array): void;
  end(): void;
  reset(): void;
}

interface StreamState extends ClientStream {
  readonly chunks: Buffer[];
  readonly onReply: () => void;
  readonly onEnd: () => void;
}

/** A client of SPDY/3.1 for tests. */
export class SpdyClient {
  readonly transport: Duplex;
  readonly frames: Frame[] = [];
  readonly closed: Promise<void>;
  readonly #parser = new FrameParser();
  readonly #decoder = new HeaderDecoder();
  readonly #encoder = new HeaderEncoder();
  readonly #streams = new Map<number, StreamState>();
  #nextId = 1;

  constructor(transport: Duplex) {
    this.transport = transport;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    transport.on('data', (piece: Buffer) => {
      for (const frame of this.#parser.push(piece)) this.#onFrame(frame);
    });
    const onClose = () => {
      for (const stream of this.#streams.values()) stream.onEnd();
      resolve();
    };
    transport.on('error', onClose);
    transport.on('end', onClose);
    transport.on('close', onClose);
  }

  open(headers: Readonly<Record<string, string>>, id = this.#nextId): ClientStream {
    this.#nextId = id + 2;
    const reply = Promise.withResolvers<void>();
    const end = Promise.withResolvers<void>();
    const chunks: Buffer[] = [];
    const stream: StreamState = {
      id,
      chunks,
      received: 0,
      replied: reply.promise,
      text: end.promise.then(() => Buffer.concat(chunks).toString()),
      onReply: reply.resolve,
      onEnd: end.resolve,
      send: (data) => this.#send(id, Buffer.from(data), false),
      end: () => this.#send(id, Buffer.alloc(0), true),
      reset: () => void this.transport.write(rstStreamFrame(id, 5)),
    };
    this.#streams.set(id, stream);
    this.transport.write(synStreamFrame(id, this.#encoder.encode(headers)));
    return stream;
  }

  ping(id: number): void {
    this.transport.write(pingFrame(id));
  }

  goAway(): void {
    this.transport.write(goAwayFrame(0));
  }

  #send(id: number, data: Buffer, isLast: boolean): void {
    this.transport.write(dataHead(id, data.length, isLast));
    if (data.length > 0) this.transport.write(data);
  }

  #onFrame(frame: Frame): void {
    this.frames.push(frame.type === 'data' ? { ...frame, data: Buffer.alloc(0) } : frame);
    if (!('id' in frame)) return;
    const stream = this.#streams.get(frame.id);
    if (frame.type === 'synReply') {
      if (this.#decoder.decode(frame.block).size > 0) throw new Error('a reply with headers');
      stream?.onReply();
    } else if (frame.type === 'data' && stream !== undefined) {
      stream.chunks.push(Buffer.from(frame.data));
      stream.received += frame.data.length;
      if (frame.isLast) stream.onEnd();
    } else if (frame.type === 'rstStream') stream?.onEnd();
  }
}

export interface DialOptions {
  readonly headers?: OutgoingHttpHeaders;
  /** For https: authority, certificate, key. */
  readonly tls?: SecureContextOptions;
}

/** Upgrades a URL of the stream server; rejects with `STATUS body` when it refuses. */
export function dialSpdy(
  url: string,
  protocols: readonly string[],
  { headers = {}, tls = {} }: DialOptions = {},
): Promise<{ client: SpdyClient; protocol: string }> {
  return new Promise((resolve, reject) => {
    const options: RequestOptions = {
      method: 'POST',
      headers: {
        Connection: 'Upgrade',
        Upgrade: 'SPDY/3.1',
        'X-Stream-Protocol-Version': [...protocols],
        'Content-Length': '0',
        ...headers,
      },
    };
    const request = url.startsWith('https:')
      ? httpsRequest(url, { ...options, ...tls, agent: false })
      : httpRequest(url, options);
    request.on('upgrade', (response, socket, head) => {
      if (head.length > 0) reject(new Error('the server spoke first'));
      const protocol = response.headers['x-stream-protocol-version'];
      resolve({ client: new SpdyClient(socket), protocol: String(protocol) });
    });
    request.on('response', (response) => {
      let body = '';
      response.on('data', (piece: Buffer) => (body += piece.toString()));
      response.on('end', () => reject(new Error(`${response.statusCode} ${body}`)));
    });
    request.on('error', reject);
    request.end();
  });
}

export interface RemoteCommandClient {
  readonly client: SpdyClient;
  readonly error: ClientStream;
  readonly stdin: ClientStream | undefined;
  readonly stdout: ClientStream | undefined;
  readonly stderr: ClientStream | undefined;
  readonly resize: ClientStream | undefined;
}

/** Opens the streams of exec or attach in the order of the official clients. */
export async function openRemoteCommand(
  url: string,
  types: readonly ('stdin' | 'stdout' | 'stderr' | 'resize')[],
  protocol = 'v4.channel.k8s.io',
  options: DialOptions = {},
): Promise<RemoteCommandClient> {
  const { client } = await dialSpdy(url, [protocol], options);
  const open = async (type: string) => {
    const stream = client.open({ streamtype: type });
    await stream.replied;
    return stream;
  };
  const error = await open('error');
  error.end();
  const openIf = async (type: (typeof types)[number]) => (types.includes(type) ? open(type) : undefined);
  return {
    client,
    error,
    stdin: await openIf('stdin'),
    stdout: await openIf('stdout'),
    stderr: await openIf('stderr'),
    resize: await openIf('resize'),
  };
}
