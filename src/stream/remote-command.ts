import { messageOf } from '../base/errors.ts';
import type { TerminalSize } from '../sys/terminal.ts';

/** Which streams the CRI request asked for; the client's own words do not count. */
export interface RemoteCommandOptions {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

/** Streams of exec or attach whatever the transport. */
export interface RemoteStreams {
  readonly stdin: StreamSource | undefined;
  readonly stdout: StreamSink | undefined;
  readonly stderr: StreamSink | undefined;
  readonly sizes: TerminalSizes;
  /** Aborted when the client has gone. */
  readonly closed: AbortSignal;
}

export interface StreamSource {
  /** Undefined at the end. One caller at a time. */
  read(): Promise<Buffer | undefined>;
  /** Drops what has come and will come. */
  ignoreInput(): void;
}

export interface StreamSink {
  /** Resolves when more may be written; false when the client wants no more. */
  write(data: Uint8Array): Promise<boolean>;
}

/** How a session ended. A failure is one of ours; a command that failed is an exit code. */
export type RemoteResult =
  | { readonly kind: 'exit'; readonly code: number }
  | { readonly kind: 'failure'; readonly message: string };

/** Does the work of a session; whatever it throws is told to the client. */
export type RemoteHandler = (streams: RemoteStreams) => Promise<RemoteResult>;

/** The result of a session, whatever happened. */
export async function settle(work: Promise<RemoteResult>): Promise<RemoteResult> {
  try {
    return await work;
  } catch (error) {
    return { kind: 'failure', message: messageOf(error) };
  }
}

/** What the error stream says from protocol version 4 on: always one JSON document. */
export function statusJson(result: RemoteResult): string {
  if (result.kind === 'failure') {
    const message = `Internal error occurred: ${result.message}`;
    return JSON.stringify({ status: 'Failure', message, reason: 'InternalError', code: 500 });
  }
  if (result.code === 0) return JSON.stringify({ status: 'Success' });
  return JSON.stringify({
    status: 'Failure',
    message: exitMessage(result.code),
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(result.code) }] },
  });
}

/** What it says before version 4: nothing when all went well. */
export function statusText(result: RemoteResult): string {
  if (result.kind === 'failure') return result.message;
  return result.code === 0 ? '' : exitMessage(result.code);
}

function exitMessage(code: number): string {
  return `command terminated with non-zero exit code: exit status ${code}`;
}

/** A single JSON object of this length is not a size. */
const maxSizeText = 1024;
const maxDimension = 0xffff;
/** Many sizes at once are no terminal's. */
const maxSizesChunk = 64 * 1024;

/**
 * The sizes a client sends: JSON objects one after the other, cut anywhere. Of each piece of its text only the last one is
 * looked at, and only the last of all is kept.
 */
export class TerminalSizes {
  #text = '';
  #isBroken = false;
  #last: TerminalSize | undefined;
  readonly #listeners = new Set<(size: TerminalSize) => void>();

  /** What is no size ends resizing, not the session. */
  push(data: Uint8Array): void {
    if (this.#isBroken) return;
    if (data.length > maxSizesChunk) this.#isBroken = true;
    else this.#take(this.#text + Buffer.from(data).toString('latin1'));
    if (this.#text.length > maxSizeText) this.#isBroken = true;
    if (this.#isBroken) this.#text = '';
  }

  #take(text: string): void {
    const end = text.lastIndexOf('}') + 1;
    this.#text = text.slice(end);
    if (end === 0) return;
    const size = parseSize(text.slice(text.lastIndexOf('}', end - 2) + 1, end));
    if (size === 'broken') this.#isBroken = true;
    else if (size !== undefined) this.#set(size);
  }

  #set(size: TerminalSize): void {
    this.#last = size;
    for (const listener of this.#listeners) listener(size);
  }

  /** Takes what a client sends until its end. */
  async readFrom(source: Pick<StreamSource, 'read'> | undefined): Promise<void> {
    for (let data = await source?.read(); data !== undefined; data = await source?.read()) this.push(data);
  }

  /** The last size there is; waits a little for a first one, as clients send it right after opening the streams. */
  async first(limitMs: number): Promise<TerminalSize | undefined> {
    if (this.#last !== undefined) return this.#last;
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#listeners.delete(done);
        resolve();
      };
      const timer = setTimeout(done, limitMs);
      this.#listeners.add(done);
    });
    return this.#last;
  }

  /** Calls back with the last size, if any, and with each that follows. */
  follow(listener: (size: TerminalSize) => void): Disposable {
    if (this.#last !== undefined) listener(this.#last);
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }
}

/** Undefined for a size with a 0, which means nothing. Keys in any case, as Go's decoder takes them. */
function parseSize(text: string): TerminalSize | 'broken' | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return 'broken';
  }
  if (typeof value !== 'object' || value === null) return 'broken';
  const fields = new Map(Object.entries(value).map(([key, field]) => [key.toLowerCase(), field as unknown]));
  const width = dimension(fields.get('width'));
  const height = dimension(fields.get('height'));
  if (width === undefined || height === undefined) return 'broken';
  return width === 0 || height === 0 ? undefined : { width, height };
}

function dimension(value: unknown): number | undefined {
  if (value === undefined) return 0;
  if (typeof value !== 'number' || !Number.isInteger(value)) return undefined;
  return value >= 0 && value <= maxDimension ? value : undefined;
}
