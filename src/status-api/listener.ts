import type { RequestListener } from 'node:http';
import type { Logger } from '../base/log.ts';
import { handleStatusRequest } from './handle-status-request.ts';
import type { StatusDeps } from './handle-status-request.ts';

/** The HTTP/1 side of the daemon's socket. */
export function statusListener(deps: StatusDeps, log: Logger): RequestListener {
  return (request, response) => {
    // Bodies have no meaning here; unread they would keep the connection busy.
    request.resume();
    handleStatusRequest({ method: request.method ?? 'GET', url: request.url ?? '/' }, deps)
      .then(({ status, headers, body }) => {
        response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body) });
        response.end(body);
      })
      .catch((error: unknown) => {
        log.warn(`answer ${request.method} ${request.url}`, error);
        response.destroy();
      });
  };
}
