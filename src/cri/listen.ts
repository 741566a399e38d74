import { chmod, mkdir, rm } from 'node:fs/promises';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { removeStaleSocket } from '../base/stale-socket.ts';

/** First bytes of every HTTP/2 connection (RFC 9113, 3.4). Three tell it from each HTTP/1 method. */
const http2Preface = Buffer.from('PRI');
/** A client that connects and says nothing holds a descriptor for so long. */
const firstBytesTimeoutMs = 30_000;
const http1ReadTimeoutMs = 5_000;
const socketMode = 0o660;

export interface SocketServer extends AsyncDisposable {
  readonly path: string;
  /** Takes no more connections, and resolves when the open HTTP/2 ones have ended: whoever serves them must end them. */
  drained(): Promise<void>;
}

/**
 * Listens on a unix socket that gRPC and HTTP/1 share: a connection that starts with the HTTP/2 preface goes to
 * `onHttp2`, every other to an HTTP/1 server. The socket's folder is made (0755), a stale socket is removed, one that
 * answers is an error; mode 0660. Disposing closes the listener and unlinks the socket.
 */
export async function listenOnSocket(options: {
  path: string;
  onHttp2: (socket: Socket) => void;
  onHttp1: RequestListener;
}): Promise<SocketServer> {
  await mkdir(dirname(options.path), { recursive: true, mode: 0o755 });
  await removeStaleSocket(options.path);
  const http1 = createHttpServer(
    { requestTimeout: http1ReadTimeoutMs, headersTimeout: http1ReadTimeoutMs },
    options.onHttp1,
  );
  const sockets = new Set<Socket>();
  const http2Sockets = new Set<Socket>();
  const onHttp2 = (socket: Socket) => {
    // A client that was killed says no goodbye. HTTP/1 may still be answered after the end of a request.
    socket.allowHalfOpen = false;
    http2Sockets.add(socket);
    socket.once('close', () => http2Sockets.delete(socket));
    options.onHttp2(socket);
  };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    sniff(socket, onHttp2, (http) => http1.emit('connection', http));
  });
  await listen(server, options.path);
  await chmod(options.path, socketMode);
  return {
    path: options.path,
    async drained() {
      server.close();
      const ends = [...http2Sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve)));
      await Promise.all(ends);
    },
    async [Symbol.asyncDispose]() {
      // It resolves as well when the server was closed already.
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
      await rm(options.path, { force: true });
    },
  };
}

/** Reads the first bytes, puts them back, and hands the connection on: nothing is lost. */
function sniff(socket: Socket, onHttp2: (socket: Socket) => void, onHttp1: (socket: Socket) => void): void {
  socket.on('error', () => socket.destroy());
  socket.setTimeout(firstBytesTimeoutMs, () => socket.destroy());
  let head: Buffer = Buffer.alloc(0);
  const onEnd = () => socket.destroy();
  const onReadable = () => {
    const chunk: unknown = socket.read();
    if (!Buffer.isBuffer(chunk)) return;
    head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
    const compared = Math.min(head.length, http2Preface.length);
    const isPrefix = head.subarray(0, compared).equals(http2Preface.subarray(0, compared));
    if (isPrefix && head.length < http2Preface.length) return;
    socket.off('readable', onReadable);
    socket.off('end', onEnd);
    socket.setTimeout(0);
    socket.removeAllListeners('timeout');
    socket.unshift(head);
    if (isPrefix) onHttp2(socket);
    else onHttp1(socket);
  };
  socket.on('readable', onReadable);
  socket.on('end', onEnd);
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
