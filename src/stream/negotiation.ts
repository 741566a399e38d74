import type { IncomingHttpHeaders } from 'node:http';

/** An HTTP answer instead of an upgrade. */
export interface Refusal {
  readonly status: number;
  readonly body: string;
  readonly headers?: readonly (readonly [string, string])[];
}

export type Negotiated = { readonly protocol: string } | { readonly refusal: Refusal };

/**
 * Chooses the sub-protocol of a SPDY upgrade: the first of the client's that the server knows. Pure; texts and order of
 * the checks are those of the Go server.
 */
export function negotiateSpdy(
  request: { readonly headers: IncomingHttpHeaders; readonly headerCount: number },
  supported: readonly string[],
): Negotiated {
  const { headers, headerCount } = request;
  // Repeated lines come joined by commas, which is what the header allows anyway.
  const offered = headers['x-stream-protocol-version'];
  if (offered === undefined) {
    return refuse(
      400,
      `unable to upgrade: header X-Stream-Protocol-Version does not exist in request with ${headerCount} headers\n`,
    );
  }
  const names = splitList(String(offered));
  if (names.length === 0) {
    return refuse(400, 'unable to upgrade: header X-Stream-Protocol-Version contains [], but no valid protocols\n');
  }
  const protocol = names.find((name) => supported.includes(name));
  if (protocol === undefined) {
    const text = `client supports [${names.join(' ')}], server accepts [${supported.join(' ')}]`;
    return refuse(
      403,
      `unable to upgrade: unable to negotiate protocol: ${text}\n`,
      supported.map((name) => ['X-Accepted-Stream-Protocol-Versions', name] as const),
    );
  }
  const connection = (headers.connection ?? '').toLowerCase();
  if (!connection.includes('upgrade') || !(headers.upgrade ?? '').toLowerCase().includes('spdy/3.1')) {
    return refuse(400, 'unable to upgrade: missing upgrade headers in request\n');
  }
  return { protocol };
}

/** True when the request wants a WebSocket; everything else is treated as SPDY. */
export function isWebSocketRequest(headers: IncomingHttpHeaders): boolean {
  const connection = (headers.connection ?? '').toLowerCase();
  return (headers.upgrade ?? '').toLowerCase() === 'websocket' && connection.includes('upgrade');
}

/**
 * Chooses the sub-protocol of a WebSocket; `''` when the client names none, which means the first version. Pure.
 */
export function negotiateWebSocket(
  request: { readonly method: string; readonly headers: IncomingHttpHeaders },
  supported: readonly string[],
): Negotiated {
  const { method, headers } = request;
  if (method !== 'GET') return refuse(405, 'bad method');
  const key = headers['sec-websocket-key'];
  if (key === undefined || !/^[+/0-9A-Za-z]{22}==$/.test(key)) return refuse(400, 'mismatch challenge/response');
  if (headers['sec-websocket-version'] !== '13') {
    return refuse(400, 'missing or bad WebSocket Version', [['Sec-WebSocket-Version', '13']]);
  }
  const names = splitList(headers['sec-websocket-protocol'] ?? '');
  if (names.length === 0) return { protocol: '' };
  const protocol = names.find((name) => supported.includes(name));
  return protocol === undefined ? refuse(403, '') : { protocol };
}

function splitList(text: string): string[] {
  return text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
}

function refuse(status: number, body: string, headers: Refusal['headers'] = []): Negotiated {
  return { refusal: { status, body, headers } };
}
