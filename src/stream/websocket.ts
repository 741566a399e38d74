import type { IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import { WebSocketServer, type RawData, type ServerOptions, type WebSocket } from 'ws';
import { lastBytesLimitMs } from './last-bytes.ts';

/** The Go server's, and enough for clients that send a whole file as one message. */
const maxMessageBytes = 32 << 20;

/** Its types do not know `closeTimeout`. */
const options: ServerOptions & { readonly closeTimeout: number } = {
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
): Promise<WebSocket | undefined> {
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
      resolve(socket);
    });
    server.off('headers', addProtocol);
  });
}

/** One answer at a time, and of the pings that come meanwhile only to the last (RFC 6455, 5.5.3). */
function answerPings(socket: WebSocket): void {
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
export function tunnelOf(socket: WebSocket): Duplex {
  const stream = new Duplex({
    read: () => socket.resume(),
    write: (data: Uint8Array, _encoding, done) => socket.send(data, done),
    writev(pieces, done) {
      // Nothing sets an encoding or object mode, so it is bytes.
      socket.send(Buffer.concat(pieces.map(({ chunk }) => chunk as Uint8Array)), done);
    },
    final(done) {
      socket.close(1000);
      done();
    },
    destroy(error, done) {
      socket.terminate();
      done(error);
    },
  });
  socket.on('message', (data, isBinary) => {
    if (!isBinary) socket.close(1003);
    else if (!stream.push(messageBytes(data))) socket.pause();
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
