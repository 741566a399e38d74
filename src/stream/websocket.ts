import type { IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import { WebSocket, WebSocketServer, type RawData, type ServerOptions } from 'ws';
import { lastBytesLimitMs } from './last-bytes.ts';

/** The Go server's, and enough for clients that send a whole file as one message. */
const maxMessageBytes = 32 << 20;

/** For a client that has said goodbye to take our answer, and to close. */
const goodbyeLimitMs = 5000;

/**
 * A WebSocket that tells at once when the client has said goodbye, by a close frame or the end of its side of TCP: event
 * 'goodbye', unless we had hung up before. The library's 'close' waits until TCP has ended both ways; it is cut after 5 s.
 */
export class ServedSocket extends WebSocket {
  #isGoing = false;

  /** Our own close frame, after which the client has to close. */
  hangUp(code: number): void {
    this.#isGoing = true;
    super.close(code);
  }

  /** For the library, which answers a client's close frame, or frames that are none, so. */
  override close(code?: number, reason?: string | Buffer): void {
    super.close(code, reason);
    this.clientLeaves();
  }

  clientLeaves(): void {
    if (this.#isGoing) return;
    this.#isGoing = true;
    const timer = setTimeout(() => this.terminate(), goodbyeLimitMs);
    this.once('close', () => clearTimeout(timer));
    this.emit('goodbye');
  }
}

/** Its types do not know `closeTimeout`. */
const options: ServerOptions<typeof ServedSocket> & { readonly closeTimeout: number } = {
  WebSocket: ServedSocket,
  noServer: true,
  clientTracking: false,
  // Clients of Kubernetes offer no compression, and it would cost 300 KB per session.
  perMessageDeflate: false,
  maxPayload: maxMessageBytes,
  // The library's own answers pile up while a client sends pings and does not read.
  autoPong: false,
  // `watchLastBytes` decides, and earlier where nothing moves.
  closeTimeout: lastBytesLimitMs,
};
const server = new WebSocketServer(options);

/**
 * Completes the handshake of a request that `negotiateWebSocket` has accepted. The chosen sub-protocol is named by hand: the
 * library takes no `/` in one, which the tunnel's has. Undefined when the client has gone already.
 */
export function acceptWebSocket(
  request: IncomingMessage,
  { socket: transport, head }: { readonly socket: Duplex; readonly head: Buffer },
  protocol: string,
): Promise<ServedSocket | undefined> {
  delete request.headers['sec-websocket-protocol'];
  delete request.headers['sec-websocket-extensions'];
  return new Promise((resolve) => {
    const addProtocol = (lines: string[], which: IncomingMessage) => {
      if (which === request && protocol !== '') lines.push(`Sec-WebSocket-Protocol: ${protocol}`);
    };
    transport.once('close', () => resolve(undefined));
    if (transport.closed) resolve(undefined);
    server.on('headers', addProtocol);
    server.handleUpgrade(request, transport, head, (socket) => {
      answerPings(socket);
      transport.once('end', () => socket.clientLeaves());
      resolve(socket);
    });
    server.off('headers', addProtocol);
  });
}

/** One answer at a time, and of the pings that come meanwhile only to the last (RFC 6455, 5.5.3). */
function answerPings(socket: ServedSocket): void {
  let isSending = false;
  let next: Buffer | undefined;
  const answer = (data: Buffer) => {
    isSending = true;
    socket.pong(data, false, () => {
      isSending = false;
      const last = next;
      next = undefined;
      if (last !== undefined && socket.readyState === socket.OPEN) answer(last);
    });
  };
  socket.on('ping', (data) => {
    if (isSending) next = Buffer.from(data);
    else if (socket.readyState === socket.OPEN) answer(data);
  });
}

/**
 * The bytes of the binary messages as one stream; a text message ends it. Its end is a close frame with code 1000, which
 * alone is one for clients.
 */
export function tunnelOf(socket: ServedSocket): Duplex {
  let hasLeft = false;
  const stream = new Duplex({
    read: () => socket.resume(),
    write: (data: Uint8Array, _encoding, done) => socket.send(data, done),
    writev(pieces, done) {
      // Nothing sets an encoding or object mode, so it is bytes.
      socket.send(Buffer.concat(pieces.map(({ chunk }) => chunk as Uint8Array)), done);
    },
    final(done) {
      socket.hangUp(1000);
      done();
    },
    destroy(error, done) {
      // Who says goodbye still takes our answer.
      if (!hasLeft) socket.terminate();
      done(error);
    },
  });
  socket.on('message', (data, isBinary) => {
    if (!isBinary) socket.close(1003);
    else if (!stream.push(messageBytes(data))) socket.pause();
  });
  socket.on('goodbye', () => {
    hasLeft = true;
    stream.destroy();
  });
  socket.on('error', (error) => stream.destroy(error));
  socket.on('close', () => stream.destroy());
  return stream;
}

/** One buffer of a message, whatever way the library has it. */
export function messageBytes(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
