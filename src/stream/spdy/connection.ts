import type { Duplex } from 'node:stream';
import { CrioError } from '../../base/errors.ts';
import { IdleTimer } from '../idle-timer.ts';
import { InputGate } from '../input.ts';
import { watchLastBytes } from '../last-bytes.ts';
import {
  dataHead,
  FrameParser,
  goAwayFrame,
  pingFrame,
  resetStatus,
  rstStreamFrame,
  synReplyFrame,
  type Frame,
} from './frames.ts';
import { EmptyHeaders, HeaderDecoder, type Headers } from './header-block.ts';
import { cut, receive, SpdyStream, type StreamPort } from './stream.ts';

const maxStreams = 2048;
/** Streams that come to nothing, in the life of a connection: unpacking their headers is work. */
const maxRefused = 1000;
const lastPingId = 0x7ffffffe;

export interface SpdyOptions {
  /** The transport: a socket after the upgrade, or a tunnel. */
  readonly transport: Duplex;
  /** Grows with each byte that the client sends or takes. */
  readonly traffic: () => number;
  /** Without payload in either direction for so long, the connection ends; pings do not count. */
  readonly idleTimeoutMs: number;
  /** Of a stream that the client opens: false refuses it, throwing ends the connection. */
  readonly accept: (headers: Headers) => boolean;
  /** Called after the reply is sent, so that data may follow at once. */
  readonly onStream: (stream: SpdyStream) => void;
}

/**
 * The server's side of SPDY/3.1 as Kubernetes uses it: the client opens streams; no flow control. A client that sends
 * more than is read is not read itself; what we send waits for the transport.
 */
export class SpdyConnection {
  /** Aborted when the client has gone or the connection has ended for another reason; its reason is a CrioError. */
  readonly closed: AbortSignal;
  readonly #abort = new AbortController();
  readonly #transport: Duplex;
  readonly #options: SpdyOptions;
  readonly #parser = new FrameParser();
  readonly #decoder = new HeaderDecoder();
  readonly #replies = new EmptyHeaders();
  readonly #streams = new Map<number, SpdyStream>();
  readonly #drained = new Set<() => void>();
  readonly #idle: IdleTimer;
  readonly #gate: InputGate;
  #nextPing = 2;
  #lastId = 0;
  #refused = 0;
  #isEnding = false;

  constructor(options: SpdyOptions) {
    this.#options = options;
    this.#transport = options.transport;
    this.closed = this.#abort.signal;
    this.#idle = new IdleTimer(options.idleTimeoutMs, () => this.#end('idle for too long'));
    const { transport } = options;
    this.#gate = new InputGate({
      pause: () => void transport.pause(),
      resume: () => void transport.resume(),
      probe: () => this.#ping(),
    });
    transport.on('data', (piece: Buffer) => this.#onData(piece));
    transport.on('drain', () => this.#onDrain());
    transport.on('error', (error) => this.#lose(error.message));
    transport.on('end', () => this.#lose('closed by the client'));
    transport.on('close', () => this.#lose('closed'));
  }

  /** Resets what is open, says goodbye and closes once the client has everything; what was written before arrives. */
  end(): void {
    this.#end('ended');
  }

  #end(reason: string): void {
    if (this.#isEnding) return;
    for (const stream of this.#streams.values()) stream.reset();
    this.#write(goAwayFrame(this.#lastId));
    this.#isEnding = true;
    this.#finish(reason);
    this.#transport.end();
    // Goes on reading, and drops it: closing with unread input would take the last output from the client.
    this.#transport.resume();
    const stopWatching = watchLastBytes(this.#options.traffic, () => this.#transport.destroy());
    this.#transport.once('close', stopWatching);
  }

  #lose(reason: string): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#finish(reason);
    this.#transport.destroy();
  }

  #finish(reason: string): void {
    this.#gate.close();
    this.#idle.stop();
    this.#abort.abort(new CrioError('canceled', `stream connection: ${reason}`));
    for (const stream of this.#streams.values()) stream[cut]();
    this.#streams.clear();
    this.#wakeWriters();
  }

  #onData(piece: Buffer): void {
    if (this.#isEnding) return;
    try {
      for (const frame of this.#parser.push(piece)) {
        this.#onFrame(frame);
        if (this.#isEnding) return;
      }
    } catch (error) {
      // A client that speaks no SPDY cannot be told so in it.
      this.#lose(error instanceof Error ? error.message : String(error));
    }
  }

  #onFrame(frame: Frame): void {
    switch (frame.type) {
      case 'synStream':
        this.#open(frame.id, this.#decoder.decode(frame.block), frame.isLast);
        break;
      case 'headers':
      case 'synReply':
        // No client of Kubernetes sends one, and unpacking is work.
        this.#lose('headers outside a new stream');
        break;
      case 'data':
        if (frame.data.length > 0) this.#idle.touch();
        if (frame.data.length > 0) this.#streams.get(frame.id)?.[receive](frame.data);
        if (frame.isLast) this.#streams.get(frame.id)?.[receive](undefined);
        break;
      case 'rstStream':
        this.#streams.get(frame.id)?.[cut]();
        break;
      case 'ping':
        if (frame.id % 2 === 1) this.#reply(pingFrame(frame.id));
        break;
      case 'goAway':
        this.#lose('the client said goodbye');
        break;
      case 'ignored':
        break;
    }
  }

  #open(id: number, headers: Headers, isLast: boolean): void {
    if (id <= this.#lastId) {
      this.#streams.get(id)?.[cut]();
      this.#refuse(id, resetStatus.protocolError);
      return;
    }
    this.#lastId = id;
    if (this.#streams.size >= maxStreams) {
      this.#refuse(id, resetStatus.refused);
      return;
    }
    if (!this.#options.accept(headers)) {
      this.#refuse(id, resetStatus.cancel);
      return;
    }
    const stream = new SpdyStream(id, headers, this.#port(id));
    this.#streams.set(id, stream);
    this.#reply(synReplyFrame(id, this.#replies.next()));
    this.#options.onStream(stream);
    if (isLast) stream[receive](undefined);
  }

  #refuse(id: number, status: number): void {
    this.#reply(rstStreamFrame(id, status));
    if (++this.#refused > maxRefused) this.#end('too many refused streams');
  }

  #port(id: number): StreamPort {
    return {
      send: (data, isLast) => this.#sendData(id, data, isLast),
      sendReset: () => this.#write(rstStreamFrame(id, resetStatus.cancel)),
      ready: () => this.#ready(),
      count: (bytes) => this.#gate.count(bytes),
      forget: () => void this.#streams.delete(id),
    };
  }

  #sendData(id: number, data: Uint8Array, isLast: boolean): void {
    if (data.length > 0) this.#idle.touch();
    this.#transport.cork();
    this.#write(dataHead(id, data.length, isLast));
    if (data.length > 0) this.#write(data);
    this.#transport.uncork();
  }

  #write(bytes: Uint8Array): void {
    if (!this.#isEnding && this.#transport.writable) this.#transport.write(bytes);
  }

  /** Resolves when the transport takes more, or never will. */
  #ready(): Promise<void> | undefined {
    if (this.#isEnding || !this.#transport.writableNeedDrain) return undefined;
    return new Promise((resolve) => {
      this.#drained.add(resolve);
    });
  }

  #wakeWriters(): void {
    for (const wake of this.#drained) wake();
    this.#drained.clear();
  }

  /** What the client makes us send. */
  #reply(frame: Buffer): void {
    this.#write(frame);
    if (this.#transport.writableNeedDrain) this.#gate.owe(frame.length);
  }

  #onDrain(): void {
    this.#wakeWriters();
    this.#gate.paid();
  }

  #ping(): void {
    this.#write(pingFrame(this.#nextPing));
    this.#nextPing = this.#nextPing >= lastPingId ? 2 : this.#nextPing + 2;
  }
}
