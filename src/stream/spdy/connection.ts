import type { Duplex } from 'node:stream';
import { CrioError } from '../../base/errors.ts';
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

/** Data that nobody has read, of all streams of a connection; beyond it the socket is not read. */
const maxUnreadBytes = 1 << 20;
/** What a chunk takes besides its bytes; a flood of tiny ones counts too. */
const chunkOverhead = 256;
const smallChunk = 8192;
/** Replies that the client does not take; each counts as a chunk. Beyond it the socket is not read: pings are cheap to send. */
const maxOwedBytes = 256 * 1024;
const maxStreams = 2048;
/** While the socket is not read, only a failing write shows that the client has gone. */
const probeMs = 10_000;
const lastPingId = 0x7ffffffe;
/** Time for the client to take the last bytes after the end. */
const closeLimitMs = 10_000;

export interface SpdyOptions {
  /** The transport: a socket after the upgrade, or a tunnel. */
  readonly transport: Duplex;
  /** Without payload in either direction for so long, the connection ends; pings do not count. */
  readonly idleTimeoutMs: number;
  /**
   * A stream that the client opens. Throwing refuses it. Called after the reply is sent, so that data may follow at once.
   */
  readonly accept: (headers: Headers) => boolean;
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
  #probe: NodeJS.Timeout | undefined;
  #nextPing = 2;
  #lastId = 0;
  #unread = 0;
  #owed = 0;
  #isEnding = false;

  constructor(options: SpdyOptions) {
    this.#options = options;
    this.#transport = options.transport;
    this.closed = this.#abort.signal;
    this.#idle = new IdleTimer(options.idleTimeoutMs, () => this.#end('idle for too long'));
    const { transport } = options;
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
    const timer = setTimeout(() => this.#transport.destroy(), closeLimitMs);
    this.#transport.once('close', () => clearTimeout(timer));
  }

  #lose(reason: string): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#finish(reason);
    this.#transport.destroy();
  }

  #finish(reason: string): void {
    clearInterval(this.#probe);
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
        // Nothing that we need, but the decompressor must see every block.
        this.#decoder.decode(frame.block);
        if (frame.isLast) this.#streams.get(frame.id)?.[receive](undefined);
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
      this.#reply(rstStreamFrame(id, resetStatus.protocolError));
      return;
    }
    this.#lastId = id;
    if (this.#streams.size >= maxStreams) {
      this.#reply(rstStreamFrame(id, resetStatus.refused));
      return;
    }
    if (!this.#options.accept(headers)) {
      this.#reply(rstStreamFrame(id, resetStatus.cancel));
      return;
    }
    const stream = new SpdyStream(id, headers, this.#port(id));
    this.#streams.set(id, stream);
    this.#reply(synReplyFrame(id, this.#replies.next()));
    this.#options.onStream(stream);
    if (isLast) stream[receive](undefined);
  }

  /** What a stream needs of its connection. */
  #port(id: number): StreamPort {
    return {
      send: (data, isLast) => this.#sendData(id, data, isLast),
      sendReset: () => this.#write(rstStreamFrame(id, resetStatus.cancel)),
      ready: () => this.#ready(),
      count: (bytes) => this.#count(bytes),
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
    if (!this.#transport.writableNeedDrain) return;
    this.#owed += frame.length + chunkOverhead;
    if (this.#owed > maxOwedBytes) this.#stopReading();
  }

  #onDrain(): void {
    this.#owed = 0;
    this.#wakeWriters();
    this.#readAgain();
  }

  #count(bytes: number): void {
    this.#unread += bytes;
    if (this.#unread > maxUnreadBytes) this.#stopReading();
    else this.#readAgain();
  }

  #readAgain(): void {
    const isTaken = this.#unread < maxUnreadBytes / 2 && this.#owed <= maxOwedBytes;
    if (this.#probe === undefined || this.#isEnding || !isTaken) return;
    clearInterval(this.#probe);
    this.#probe = undefined;
    this.#transport.resume();
  }

  #stopReading(): void {
    if (this.#isEnding) return;
    this.#transport.pause();
    this.#probe ??= setInterval(() => {
      this.#write(pingFrame(this.#nextPing));
      this.#nextPing = this.#nextPing >= lastPingId ? 2 : this.#nextPing + 2;
    }, probeMs);
  }
}

interface StreamPort {
  send(data: Uint8Array, isLast: boolean): void;
  sendReset(): void;
  ready(): Promise<void> | undefined;
  /** Unread bytes more or less. */
  count(bytes: number): void;
  forget(): void;
}

/** For the connection only. */
const receive = Symbol('receive');
const cut = Symbol('cut');

/** One stream, opened by the client and answered. Each direction ends on its own. */
export class SpdyStream {
  readonly id: number;
  readonly headers: Headers;
  readonly #port: StreamPort;
  readonly #chunks: Buffer[] = [];
  readonly #cut = Promise.withResolvers<void>();
  #wake: (() => void) | undefined;
  #isReadEnded = false;
  #isWriteEnded = false;
  #isCut = false;

  constructor(id: number, headers: Headers, port: StreamPort) {
    this.id = id;
    this.headers = headers;
    this.#port = port;
  }

  /** Resolves when the client has reset the stream or gone, or we have reset it. */
  get gone(): Promise<void> {
    return this.#cut.promise;
  }

  /** The next data, one caller at a time; undefined at the end, which a reset is too. */
  async read(): Promise<Buffer | undefined> {
    while (this.#chunks.length === 0 && !this.#isReadEnded) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const chunk = this.#chunks.shift();
    if (chunk !== undefined) this.#port.count(-chunk.length - chunkOverhead);
    return chunk;
  }

  /** Drops what has come and will come. */
  ignoreInput(): void {
    void this.#drop();
  }

  async #drop(): Promise<void> {
    while ((await this.read()) !== undefined);
  }

  /** Sends, and waits while the client does not take it. False, and nothing is sent, when the client wants no more. */
  async write(data: Uint8Array): Promise<boolean> {
    if (this.#isWriteEnded) return false;
    this.#port.send(data, false);
    await this.#port.ready();
    return !this.#isWriteEnded;
  }

  /** No more will come from us. */
  end(): void {
    if (this.#isWriteEnded) return;
    this.#isWriteEnded = true;
    this.#port.send(new Uint8Array(0), true);
    if (this.#isReadEnded) this.#port.forget();
  }

  /** Ends both directions. */
  reset(): void {
    if (this.#isCut) return;
    if (!this.#isWriteEnded) this.#port.sendReset();
    this[cut]();
  }

  [receive](data: Buffer | undefined): void {
    if (this.#isReadEnded) return;
    if (data === undefined) {
      this.#isReadEnded = true;
      if (this.#isWriteEnded) this.#port.forget();
    } else {
      // A small part of a large piece would keep all of it in memory.
      this.#chunks.push(data.length < smallChunk ? Buffer.from(data) : data);
      this.#port.count(data.length + chunkOverhead);
    }
    this.#wake?.();
    this.#wake = undefined;
  }

  [cut](): void {
    if (this.#isCut) return;
    this.#isCut = true;
    this.#isReadEnded = true;
    this.#isWriteEnded = true;
    this.#port.forget();
    this.#cut.resolve();
    this.#wake?.();
    this.#wake = undefined;
  }
}

/** Calls back once when nothing has touched it for so long. */
export class IdleTimer {
  readonly #limitMs: number;
  readonly #onIdle: () => void;
  #lastMs = performance.now();
  #timer: NodeJS.Timeout | undefined;

  /** 0: never */
  constructor(limitMs: number, onIdle: () => void) {
    this.#limitMs = limitMs;
    this.#onIdle = onIdle;
    if (limitMs > 0) this.#arm(limitMs);
  }

  touch(): void {
    this.#lastMs = performance.now();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #arm(ms: number): void {
    this.#timer = setTimeout(() => {
      const leftMs = this.#lastMs + this.#limitMs - performance.now();
      if (leftMs <= 0) this.#onIdle();
      else this.#arm(leftMs);
    }, ms);
    this.#timer.unref();
  }
}
