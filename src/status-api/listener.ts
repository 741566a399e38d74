import type { RequestListener, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { hasCode } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { handleStatusRequest } from './handle-status-request.ts';
import type { StatusDeps, StatusResponse } from './handle-status-request.ts';

/** The HTTP/1 side of the daemon's socket. */
export function statusListener(deps: StatusDeps, log: Logger): RequestListener {
  return (request, response) => {
    // Bodies have no meaning here; unread they would keep the connection busy.
    request.resume();
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const { method = 'GET', url = '/', headers } = request;
    handleStatusRequest({ method, url, headers, signal: gone.signal }, deps)
      .then((answer) => send(response, answer))
      .catch((error: unknown) => {
        if (!hasCode(error, 'ERR_STREAM_PREMATURE_CLOSE')) log.warn(`answer ${request.method} ${request.url}`, error);
        response.destroy();
      });
  };
}

async function send(response: ServerResponse, { status, headers, body }: StatusResponse): Promise<void> {
  if (typeof body !== 'string') {
    response.writeHead(status, headers);
    await pipeline(Readable.from(body), response);
    return;
  }
  response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}
