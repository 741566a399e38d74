import { CrioError } from '../../base/errors.ts';
import type { ErrorKind } from '../../base/errors.ts';
import { isList, isObject, parseLooseJson } from '../json.ts';
import { readAll } from './http.ts';
import type { HttpResponse } from './http.ts';
import { bodyLimits } from './limits.ts';

/** A registry's answer that is no success. */
export class RegistryError extends CrioError {
  readonly status: number;
  /** As in the distribution specification, `MANIFEST_UNKNOWN`; empty when the answer had none. */
  readonly code: string;
  readonly retryAfterMs: number | undefined;

  constructor(options: { status: number; code: string; message: string; retryAfterMs?: number | undefined }) {
    super(kindOfStatus(options.status), options.message);
    this.name = 'RegistryError';
    this.status = options.status;
    this.code = options.code;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Reads the error document of an answer, as far as there is one. */
export async function readRegistryError(response: HttpResponse): Promise<RegistryError> {
  const detail = await readDetail(response);
  const code = detail?.code ?? '';
  const text =
    detail === undefined ? '' : `: ${[detail.code, detail.message].filter((part) => part !== '').join(': ')}`;
  return new RegistryError({
    status: response.status,
    code,
    message: `${response.status} ${statusText(response.status)}${text}`,
    retryAfterMs: parseRetryAfter(response.headers['retry-after'], Date.now()),
  });
}

/** Seconds or an HTTP date. */
export function parseRetryAfter(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  const text = header.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

async function readDetail(response: HttpResponse): Promise<{ code: string; message: string } | undefined> {
  try {
    const json = parseLooseJson(await readAll(response, bodyLimits.error, 'error'), 'error');
    const errors = isObject(json) ? json.get('errors') : undefined;
    const first = isList(errors) ? errors[0] : json;
    if (!isObject(first)) return undefined;
    const code = first.get('code');
    const message = first.get('message') ?? first.get('details');
    return { code: printable(code, 64), message: printable(message, 300) };
  } catch {
    return undefined;
  }
}

/** What a registry sends reaches logs and clients: one line, bounded. */
function printable(value: unknown, limit: number): string {
  if (typeof value !== 'string') return '';
  const line = value.replaceAll(/[^\x20-\x7e\u00a0-\uffff]+/g, ' ').trim();
  return line.length > limit ? `${line.slice(0, limit)}...` : line;
}

const statusTexts: ReadonlyMap<number, string> = new Map([
  [400, 'bad request'],
  [401, 'unauthorized'],
  [403, 'forbidden'],
  [404, 'not found'],
  [429, 'too many requests'],
  [500, 'internal server error'],
  [502, 'bad gateway'],
  [503, 'service unavailable'],
  [504, 'gateway timeout'],
]);

function statusText(status: number): string {
  return statusTexts.get(status) ?? 'unexpected status';
}

function kindOfStatus(status: number): ErrorKind {
  if (status === 404) return 'not-found';
  if (status === 429) return 'resource-exhausted';
  if (status >= 500) return 'unavailable';
  return 'unknown';
}
