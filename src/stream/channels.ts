import { CrioError } from '../base/errors.ts';
import { IdleTimer } from './idle-timer.ts';
import { InputGate, InputQueue } from './input.ts';
import { watchLastBytes } from './last-bytes.ts';
import { messageBytes, type ServedSocket } from './websocket.ts';

/** Version 5: this channel, and the number of the channel whose input ends. */
const closeChannel = 255;
const base64Zero = 0x30;
/** A message's first byte; in base64 it is a character of ASCII. */
const maxChannels = { binary: 256, base64: 128 - base64Zero } as const;

/** How many channels a WebSocket may have. */
export function channelLimit(isBase64: boolean): number {
  return isBase64 ? maxChannels.base64 : maxChannels.binary;
}

export interface ChannelOptions {
  readonly base64: boolean;
  /** Version 5 */
  readonly canHalfClose: boolean;
  readonly idleTimeoutMs: number;
  /** Grows with each byte that the client sends or takes. */
  readonly traffic: () => number;
  /** Channels whose input is wanted; data for others is dropped. */
  readonly inputs: readonly number[];
}

/** Channels over a WebSocket: each message is a channel number and data. */
export class Channels {
  /** Aborted when the client has gone or the session has ended. */
  readonly closed: AbortSignal;
  readonly #abort = new AbortController();
  readonly #socket: ServedSocket;
  readonly #options: ChannelOptions;
  readonly #inputs: ReadonlyMap<number, InputQueue>;
  readonly #idle: IdleTimer;
  readonly #gate: InputGate;

  constructor(socket: ServedSocket, options: ChannelOptions) {
    this.#socket = socket;
    this.#options = options;
    this.closed = this.#abort.signal;
    this.#gate = new InputGate({
      pause: () => socket.pause(),
      resume: () => socket.resume(),
      probe: () => socket.ping(),
    });
    this.#inputs = new Map(
      options.inputs.map((channel) => [channel, new InputQueue((bytes) => this.#gate.count(bytes))]),
    );
    this.#idle = new IdleTimer(options.idleTimeoutMs, () => socket.terminate());
    socket.on('message', (data) => this.#onMessage(messageBytes(data)));
    socket.on('error', () => socket.terminate());
    socket.on('goodbye', () => this.#finish('closed by the client'));
    socket.on('close', () => this.#finish('closed by the client'));
  }

  input(channel: number): InputQueue | undefined {
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
    this.#end(1000);
  }

  #end(code: number): void {
    this.#finish('ended');
    if (this.#socket.readyState === this.#socket.CLOSED) return;
    this.#socket.resume();
    this.#socket.hangUp(code);
    const stopWatching = watchLastBytes(this.#options.traffic, () => this.#socket.terminate());
    this.#socket.once('close', stopWatching);
  }

  #finish(reason: string): void {
    if (this.closed.aborted) return;
    this.#gate.close();
    this.#idle.stop();
    this.#abort.abort(new CrioError('canceled', `stream connection: ${reason}`));
    for (const input of this.#inputs.values()) input.end();
  }

  #onMessage(message: Buffer): void {
    const [first] = message;
    if (first === undefined || this.closed.aborted) return;
    if (first === closeChannel && this.#options.canHalfClose) {
      const input = message.length === 2 ? this.#inputs.get(message[1] ?? closeChannel) : undefined;
      if (input === undefined) this.#end(1002);
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
}

/** Whole groups of four characters. */
const base64Piece = 64 * 1024;

/** Undefined for what is no base64. In pieces: a message may be large, and a string of all of it would stay for a while. */
export function decodeBase64(text: Buffer): Buffer | undefined {
  if (text.length % 4 !== 0) return undefined;
  const data = Buffer.allocUnsafe((text.length / 4) * 3);
  let length = 0;
  for (let at = 0; at < text.length; at += base64Piece) {
    const ascii = text.toString('latin1', at, at + base64Piece);
    const isLast = at + base64Piece >= text.length;
    if (!(isLast ? /^[A-Za-z0-9+/]*={0,2}$/ : /^[A-Za-z0-9+/]*$/).test(ascii)) return undefined;
    length += data.write(ascii, length, 'base64');
  }
  return data.subarray(0, length);
}
