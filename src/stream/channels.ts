import type { WebSocket } from 'ws';
import { CrioError } from '../base/errors.ts';
import { IdleTimer } from './spdy/connection.ts';
import { messageBytes } from './websocket.ts';

/** Version 5: this channel, and the number of the channel whose input ends. */
const closeChannel = 255;
/** Unread bytes beyond which the socket is not read. */
const maxUnreadBytes = 1 << 20;
const chunkOverhead = 256;
/** While the socket is not read only a failing write shows that the client has gone. */
const probeMs = 10_000;
const closeLimitMs = 10_000;
const base64Zero = 0x30;

export interface ChannelOptions {
  readonly base64: boolean;
  /** Version 5 */
  readonly canHalfClose: boolean;
  readonly idleTimeoutMs: number;
  /** Channels whose input is wanted; data for others is dropped. */
  readonly inputs: readonly number[];
}

/** Channels over a WebSocket: each message is a channel number and data. */
export class Channels {
  /** Aborted when the client has gone or the session has ended. */
  readonly closed: AbortSignal;
  readonly #abort = new AbortController();
  readonly #socket: WebSocket;
  readonly #options: ChannelOptions;
  readonly #inputs: ReadonlyMap<number, ChannelInput>;
  readonly #idle: IdleTimer;
  #unread = 0;
  #probe: NodeJS.Timeout | undefined;

  constructor(socket: WebSocket, options: ChannelOptions) {
    this.#socket = socket;
    this.#options = options;
    this.closed = this.#abort.signal;
    this.#inputs = new Map(options.inputs.map((channel) => [channel, new ChannelInput((bytes) => this.#count(bytes))]));
    this.#idle = new IdleTimer(options.idleTimeoutMs, () => socket.terminate());
    socket.on('message', (data) => this.#onMessage(messageBytes(data)));
    socket.on('error', () => socket.terminate());
    // A client's close frame ends the session; the library answers it.
    socket.on('close', () => this.#finish('closed by the client'));
  }

  input(channel: number): ChannelInput | undefined {
    return this.#inputs.get(channel);
  }

  /** Sends one message, and waits until the system has taken it. False when the client has gone. */
  send(channel: number, data: Uint8Array): Promise<boolean> {
    if (this.closed.aborted || this.#socket.readyState !== this.#socket.OPEN) return Promise.resolve(false);
    if (data.length > 0) this.#idle.touch();
    const message = this.#options.base64
      ? String.fromCharCode(base64Zero + channel) + Buffer.from(data).toString('base64')
      : Buffer.concat([Buffer.of(channel), data]);
    return new Promise((resolve) => {
      this.#socket.send(message, { binary: !this.#options.base64 }, (error) => resolve(!error));
    });
  }

  /** The close frame, which tells clients that all channels have ended; everything sent before arrives. */
  end(): void {
    this.#finish('ended');
    if (this.#socket.readyState === this.#socket.CLOSED) return;
    this.#socket.resume();
    this.#socket.close(1000);
    const timer = setTimeout(() => this.#socket.terminate(), closeLimitMs);
    this.#socket.once('close', () => clearTimeout(timer));
  }

  #finish(reason: string): void {
    if (this.closed.aborted) return;
    clearInterval(this.#probe);
    this.#idle.stop();
    this.#abort.abort(new CrioError('canceled', `stream connection: ${reason}`));
    for (const input of this.#inputs.values()) input.end();
  }

  #onMessage(message: Buffer): void {
    const [first] = message;
    if (first === undefined || this.closed.aborted) return;
    if (first === closeChannel && this.#options.canHalfClose) {
      const input = message.length === 2 ? this.#inputs.get(message[1] ?? closeChannel) : undefined;
      if (input === undefined) this.#socket.close(1002);
      else input.end();
      return;
    }
    const channel = this.#options.base64 ? first - base64Zero : first;
    const input = this.#inputs.get(channel);
    if (input === undefined) return;
    const data = this.#options.base64 ? decodeBase64(message.subarray(1)) : message.subarray(1);
    if (data === undefined || data.length === 0) return;
    this.#idle.touch();
    input.push(data);
  }

  #count(bytes: number): void {
    this.#unread += bytes;
    if (this.closed.aborted) return;
    if (this.#unread > maxUnreadBytes) {
      this.#socket.pause();
      this.#probe ??= setInterval(() => this.#socket.ping(), probeMs);
    } else if (this.#probe !== undefined && this.#unread < maxUnreadBytes / 2) {
      clearInterval(this.#probe);
      this.#probe = undefined;
      this.#socket.resume();
    }
  }
}

/** Undefined for what is no base64. */
function decodeBase64(text: Buffer): Buffer | undefined {
  const ascii = text.toString('latin1');
  return /^[A-Za-z0-9+/]*={0,2}$/.test(ascii) && ascii.length % 4 === 0 ? Buffer.from(ascii, 'base64') : undefined;
}

/** What the client sends on one channel. */
export class ChannelInput {
  readonly #chunks: Buffer[] = [];
  readonly #count: (bytes: number) => void;
  #wake: (() => void) | undefined;
  #isEnded = false;
  #isIgnored = false;

  constructor(count: (bytes: number) => void) {
    this.#count = count;
  }

  push(data: Buffer): void {
    if (this.#isEnded || this.#isIgnored) return;
    this.#chunks.push(Buffer.from(data));
    this.#count(data.length + chunkOverhead);
    this.#wakeReader();
  }

  end(): void {
    this.#isEnded = true;
    this.#wakeReader();
  }

  async read(): Promise<Buffer | undefined> {
    while (this.#chunks.length === 0 && !this.#isEnded) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const chunk = this.#chunks.shift();
    if (chunk !== undefined) this.#count(-chunk.length - chunkOverhead);
    return chunk;
  }

  ignoreInput(): void {
    this.#isIgnored = true;
    for (const chunk of this.#chunks.splice(0)) this.#count(-chunk.length - chunkOverhead);
  }

  #wakeReader(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}
