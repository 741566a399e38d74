import type { Duplex } from 'node:stream';
import type { SecureContextOptions } from 'node:tls';
import { createWebSocketStream, WebSocket } from 'ws';

/** A client of the channels over a WebSocket, for tests. */
export class ChannelClient {
  readonly socket: WebSocket;
  /** First byte and rest of each message, as they came. */
  readonly messages: { readonly channel: number; readonly data: Buffer; readonly isBinary: boolean }[] = [];
  /** The code of the close frame; 1006 without one. */
  readonly closed: Promise<number>;
  readonly #isBase64: boolean;
  #received = 0;

  constructor(socket: WebSocket, isBase64 = false) {
    this.socket = socket;
    this.#isBase64 = isBase64;
    socket.on('message', (message: Buffer, isBinary) => {
      const first = message[0] ?? -1;
      const rest = message.subarray(1);
      const data = isBase64 ? Buffer.from(rest.toString('latin1'), 'base64') : rest;
      this.#received += data.length;
      this.messages.push({ channel: isBase64 ? first - zero : first, data, isBinary });
    });
    this.closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => {});
  }

  /** Bytes of all channels. */
  get received(): number {
    return this.#received;
  }

  send(channel: number, data: string | Uint8Array): void {
    const bytes = Buffer.from(data);
    if (this.#isBase64) this.socket.send(String.fromCharCode(zero + channel) + bytes.toString('base64'));
    else this.socket.send(Buffer.concat([Buffer.of(channel), bytes]));
  }

  /** Version 5: the end of what this side sends on a channel. */
  closeChannel(channel: number): void {
    this.socket.send(Buffer.of(255, channel));
  }

  /** What has come on a channel. */
  bytes(channel: number): Buffer {
    return Buffer.concat(this.messages.filter((message) => message.channel === channel).map(({ data }) => data));
  }

  text(channel: number): string {
    return this.bytes(channel).toString();
  }
}

const zero = 0x30;

export interface WebSocketOptions {
  /** For wss: authority, certificate, key. */
  readonly tls?: SecureContextOptions;
}

/**
 * Opens a WebSocket at a URL of the stream server; the sub-protocol '' is left out. `opened` rejects with `STATUS` when it
 * refuses, and when it answers with another sub-protocol. The library knows none with a `/`, which the tunnel's has.
 */
function dial(url: string, protocol: string, { tls = {} }: WebSocketOptions = {}) {
  const headers = protocol === '' ? {} : { 'Sec-WebSocket-Protocol': protocol };
  const socket = new WebSocket(url, { ...tls, headers, perMessageDeflate: false });
  const opened = new Promise<void>((resolve, reject) => {
    let answered = '';
    socket.once('upgrade', (response) => {
      answered = response.headers['sec-websocket-protocol'] ?? '';
      delete response.headers['sec-websocket-protocol'];
    });
    socket.once('open', () =>
      answered === protocol ? resolve() : reject(new Error(`the server chose "${answered}"`)),
    );
    socket.once('unexpected-response', (_request, response) => reject(new Error(String(response.statusCode))));
    socket.once('error', reject);
  });
  return { socket, opened };
}

export async function openChannels(url: string, protocol: string, options?: WebSocketOptions): Promise<ChannelClient> {
  const { socket, opened } = dial(url, protocol, options);
  // Before anything can come: the server speaks first.
  const client = new ChannelClient(socket, protocol.includes('base64'));
  await opened;
  return client;
}

/** The byte stream inside the messages of a tunnel. */
export async function openTunnel(url: string, protocol: string): Promise<Duplex> {
  const { socket, opened } = dial(url, protocol);
  await opened;
  return createWebSocketStream(socket);
}
