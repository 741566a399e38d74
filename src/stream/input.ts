/** Data that nobody has read, of all streams of a connection; beyond it the socket is not read. */
const maxUnreadBytes = 1 << 20;
/** What a chunk takes besides its bytes; a flood of tiny ones counts too. */
export const chunkOverhead = 256;
/** Replies that the client does not take. Beyond it the socket is not read: pings are cheap to send. */
const maxOwedBytes = 256 * 1024;
/** While the socket is not read, only a failing write shows that the client has gone. */
const probeMs = 10_000;

export interface GatedSocket {
  pause(): void;
  resume(): void;
  /** Writes something that the client does not mind. */
  probe(): void;
}

/** Stops reading a client that sends more than is read, or makes us send more than it takes. */
export class InputGate {
  readonly #socket: GatedSocket;
  #unread = 0;
  #owed = 0;
  #probe: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(socket: GatedSocket) {
    this.#socket = socket;
  }

  /** Unread bytes more or less. */
  count(bytes: number): void {
    this.#unread += bytes;
    this.#decide();
  }

  /** A reply that waits for the client. */
  owe(bytes: number): void {
    this.#owed += bytes + chunkOverhead;
    this.#decide();
  }

  /** The client has taken all replies. */
  paid(): void {
    this.#owed = 0;
    this.#decide();
  }

  /** From now on it does not touch the socket. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#probe);
  }

  #decide(): void {
    if (this.#isClosed) return;
    if (this.#probe === undefined) {
      if (this.#unread <= maxUnreadBytes && this.#owed <= maxOwedBytes) return;
      this.#socket.pause();
      this.#probe = setInterval(() => this.#socket.probe(), probeMs);
    } else if (this.#unread < maxUnreadBytes / 2 && this.#owed <= maxOwedBytes) {
      clearInterval(this.#probe);
      this.#probe = undefined;
      this.#socket.resume();
    }
  }
}

/** What the client sends on one stream or channel, until somebody reads it. */
export class InputQueue {
  readonly #chunks: Buffer[] = [];
  readonly #count: (bytes: number) => void;
  #wake: (() => void) | undefined;
  #isEnded = false;
  #isIgnored = false;

  /** `count` is told of unread bytes, more or less. */
  constructor(count: (bytes: number) => void) {
    this.#count = count;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  push(data: Buffer): void {
    if (this.#isEnded || this.#isIgnored) return;
    // A small part of a large piece would keep all of it in memory.
    this.#chunks.push(data.buffer.byteLength > 2 * data.length ? Buffer.from(data) : data);
    this.#count(data.length + chunkOverhead);
    this.#wakeReader();
  }

  end(): void {
    this.#isEnded = true;
    this.#wakeReader();
  }

  /** The next data, one caller at a time; undefined at the end. */
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

  /** Drops what has come and will come. */
  ignoreInput(): void {
    this.#isIgnored = true;
    for (const chunk of this.#chunks.splice(0)) this.#count(-chunk.length - chunkOverhead);
  }

  #wakeReader(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}
