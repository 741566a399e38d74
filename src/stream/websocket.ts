import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { createWebSocketStream, WebSocketServer, type RawData, type WebSocket } from 'ws';

/** The Go server's, and enough for clients that send a whole file as one message. */
const maxMessageBytes = 32 << 20;

/** Compression is never agreed to: clients of Kubernetes offer none, and it would cost 300 KB per session. */
const server = new WebSocketServer({
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: maxMessageBytes,
  // The library's own answers pile up while a client sends pings and does not read.
  autoPong: false,
});

/**
 * Completes the handshake of a request that `negotiateWebSocket` has accepted. The chosen sub-protocol is named by hand: the
 * library takes no `/` in one, which the tunnel's has.
 */
export function acceptWebSocket(
  request: IncomingMessage,
  transport: { readonly socket: Duplex; readonly head: Buffer },
  protocol: string,
): Promise<WebSocket> {
  delete request.headers['sec-websocket-protocol'];
  delete request.headers['sec-websocket-extensions'];
  return new Promise((resolve) => {
    const addProtocol = (lines: string[], which: IncomingMessage) => {
      if (which === request && protocol !== '') lines.push(`Sec-WebSocket-Protocol: ${protocol}`);
    };
    server.on('headers', addProtocol);
    server.handleUpgrade(request, transport.socket, transport.head, (socket) => {
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

/** The bytes of the binary messages as one stream; a text message ends it. */
export function tunnelOf(socket: WebSocket): Duplex {
  const stream = createWebSocketStream(socket, { readableObjectMode: false });
  socket.on('message', (_data, isBinary) => {
    if (!isBinary) socket.close(1003);
  });
  return stream;
}

/** One buffer of a message, whatever way the library has it. */
export function messageBytes(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
