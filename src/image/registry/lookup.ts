import { lookup as systemLookup } from 'node:dns';
import type { LookupAddress, LookupAllOptions } from 'node:dns';
import type { LookupFunction } from 'node:net';

const parallel = 2;
const cacheMs = 10_000;

interface Entry {
  readonly addresses: Promise<readonly LookupAddress[]>;
  readonly atMs: number;
}

/**
 * getaddrinfo(3) with at most two look-ups at a time and a short memory. The look-ups run in libuv's pool, whose four
 * threads file access needs too: a dead name server must not take them all.
 */
export function createLookup(): LookupFunction {
  const cache = new Map<string, Entry>();
  const queue: (() => void)[] = [];
  let running = 0;

  async function resolveAll(host: string): Promise<readonly LookupAddress[]> {
    if (running >= parallel) await new Promise<void>((resolve) => queue.push(resolve));
    running += 1;
    try {
      return await lookUp(host, { all: true, order: 'verbatim' });
    } finally {
      running -= 1;
      queue.shift()?.();
    }
  }

  function cached(host: string): Promise<readonly LookupAddress[]> {
    const now = performance.now();
    const entry = cache.get(host);
    if (entry !== undefined && now - entry.atMs < cacheMs) return entry.addresses;
    const addresses = resolveAll(host);
    cache.set(host, { addresses, atMs: now });
    addresses.catch(() => cache.delete(host));
    if (cache.size > 1000) cache.clear();
    return addresses;
  }

  return (host, options, callback) => {
    cached(host).then(
      (addresses) => answer(host, addresses, options, callback),
      (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), ''),
    );
  };
}

function answer(
  host: string,
  addresses: readonly LookupAddress[],
  options: { readonly all?: boolean | undefined; readonly family?: number | string | undefined },
  callback: Parameters<LookupFunction>[2],
): void {
  const family =
    options.family === 4 || options.family === 'IPv4' ? 4 : options.family === 6 || options.family === 'IPv6' ? 6 : 0;
  const matching = addresses.filter((address) => family === 0 || address.family === family);
  const first = matching[0];
  if (first === undefined) {
    callback(Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: 'ENOTFOUND' }), '');
  } else if (options.all === true) {
    callback(null, [...matching]);
  } else {
    callback(null, first.address, first.family);
  }
}

function lookUp(host: string, options: LookupAllOptions): Promise<readonly LookupAddress[]> {
  return new Promise((resolve, reject) => {
    systemLookup(host, options, (error, addresses) => {
      if (error === null) resolve(addresses);
      else reject(error);
    });
  });
}
