import { InputQueue } from '../input.ts';
import type { Headers } from './header-block.ts';

/** What a stream needs of its connection. */
export interface StreamPort {
  send(data: Uint8Array, isLast: boolean): void;
  sendReset(): void;
  /** Resolves when the transport takes more, or never will. */
  ready(): Promise<void> | undefined;
  /** Unread bytes more or less. */
  count(bytes: number): void;
  forget(): void;
}

/** For the connection only: data, or the end of what the client sends. */
export const receive: unique symbol = Symbol('receive');
/** For the connection only: both directions have ended. */
export const cut: unique symbol = Symbol('cut');

/** One stream, opened by the client and answered. Each direction ends on its own. */
export class SpdyStream {
  readonly id: number;
  readonly headers: Headers;
  readonly #port: StreamPort;
  readonly #input: InputQueue;
  readonly #cut = Promise.withResolvers<void>();
  #isWriteEnded = false;
  #isCut = false;

  constructor(id: number, headers: Headers, port: StreamPort) {
    this.id = id;
    this.headers = headers;
    this.#port = port;
    this.#input = new InputQueue((bytes) => port.count(bytes));
  }

  /** Resolves when the client has reset the stream or gone, or we have reset it. */
  get gone(): Promise<void> {
    return this.#cut.promise;
  }

  /** The next data, one caller at a time; undefined at the end, which a reset is too. */
  read(): Promise<Buffer | undefined> {
    return this.#input.read();
  }

  /** Drops what has come and will come. */
  ignoreInput(): void {
    this.#input.ignoreInput();
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
    if (this.#input.isEnded) this.#port.forget();
  }

  /** Ends both directions. */
  reset(): void {
    if (this.#isCut) return;
    if (!this.#isWriteEnded) this.#port.sendReset();
    this[cut]();
  }

  [receive](data: Buffer | undefined): void {
    if (data !== undefined) {
      this.#input.push(data);
      return;
    }
    if (this.#input.isEnded) return;
    this.#input.end();
    if (this.#isWriteEnded) this.#port.forget();
  }

  [cut](): void {
    if (this.#isCut) return;
    this.#isCut = true;
    this.#isWriteEnded = true;
    this.#port.forget();
    this.#cut.resolve();
    this.#input.end();
  }
}
