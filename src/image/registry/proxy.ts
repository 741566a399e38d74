import { BlockList, isIP } from 'node:net';
import { CrioError } from '../../base/errors.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** For an agent of node:http: the proxies alone, as whether one is used is decided here. */
export interface ProxyEnv {
  readonly HTTP_PROXY?: string;
  readonly HTTPS_PROXY?: string;
}

/**
 * The proxy settings for requests to a URL; undefined for a direct connection. HTTP_PROXY, HTTPS_PROXY and NO_PROXY mean
 * what they mean to Go programs, whose settings nodes have: this machine's own addresses are never asked for through a
 * proxy, and NO_PROXY takes `*`, hosts with all below them, `.suffix`, `*.suffix`, addresses and CIDR ranges, each name
 * and address with a port or without. Throws for a proxy that cannot be used: nothing goes past it. https://pkg.go.dev/golang.org/x/net/http/httpproxy
 */
export function proxyFor(url: URL, env: Env): ProxyEnv | undefined {
  const variable = url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY';
  const proxy = read(env, variable);
  if (proxy === '' || isExcluded(url, read(env, 'NO_PROXY'))) return undefined;
  return { [variable]: checkProxy(variable, /^[a-z][a-z0-9+.-]*:\/\//i.test(proxy) ? proxy : `http://${proxy}`) };
}

/** Node's agents connect directly when they cannot use a proxy. What is refused may hold a password, and is not repeated. */
function checkProxy(variable: string, proxy: string): string {
  const protocol = URL.parse(proxy)?.protocol;
  if (protocol === 'http:' || protocol === 'https:') return proxy;
  const what = protocol === undefined ? 'is no URL' : `is a proxy of the kind "${protocol.slice(0, -1)}"`;
  throw new CrioError('failed-precondition', `${variable} ${what}: only http and https are supported`);
}

function read(env: Env, name: string): string {
  const upper = env[name] ?? '';
  return upper === '' ? (env[name.toLowerCase()] ?? '') : upper;
}

function isExcluded(url: URL, noProxy: string): boolean {
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
  if (host === 'localhost' || isLoopback(host)) return true;
  return noProxy
    .toLowerCase()
    .split(',')
    .map((item) => item.trim())
    .some((item) => item !== '' && matches(item, host, port));
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

function isLoopback(host: string): boolean {
  return isIP(host) !== 0 && loopback.check(host, family(host));
}

function matches(item: string, host: string, port: string): boolean {
  if (item === '*') return true;
  const [range = '', bits = ''] = item.split('/');
  if (item.includes('/')) return inRange(host, range, bits);
  const [name, wantedPort] = splitPort(item);
  if (wantedPort !== undefined && wantedPort !== port) return false;
  if (isIP(name) !== 0) return isIP(host) !== 0 && inRange(host, name, isIP(name) === 4 ? '32' : '128');
  if (isIP(host) !== 0 || name === '') return false;
  const suffix = name.replace(/^\*/, '');
  return suffix.startsWith('.') ? host.endsWith(suffix) : host === suffix || host.endsWith(`.${suffix}`);
}

function inRange(host: string, range: string, bits: string): boolean {
  const kind = isIP(range);
  const count = /^\d{1,3}$/.test(bits) ? Number(bits) : 129;
  if (isIP(host) !== kind || kind === 0 || count > (kind === 4 ? 32 : 128)) return false;
  const list = new BlockList();
  list.addSubnet(range, count, family(range));
  return list.check(host, family(host));
}

/** `host:port`, `[::1]:port`, or no port. */
function splitPort(item: string): readonly [name: string, port: string | undefined] {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(item);
  if (match !== null) return [match[1] ?? match[2] ?? '', match[3]];
  return [item.replace(/^\[(.*)\]$/, '$1'), undefined];
}

function family(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}
