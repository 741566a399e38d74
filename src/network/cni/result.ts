import { isIP } from 'node:net';
import { CrioError, wrap } from '../../base/errors.ts';
import { isJsonObject, type Json, type JsonObject } from '../../base/go-json.ts';
import { compareVersions, currentVersion, effectiveVersion, isAtLeast, isKnownVersion } from './version.ts';

/** A plugin's result in the form of specification 1.1.0. Members that are absent or empty are left out. */
export interface CniResult {
  readonly cniVersion: string;
  readonly interfaces?: readonly CniInterface[];
  readonly ips?: readonly CniIp[];
  readonly routes?: readonly CniRoute[];
  readonly dns?: CniDns;
}

export interface CniInterface {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  readonly sandbox?: string;
  readonly socketPath?: string;
  readonly pciID?: string;
}

export interface CniIp {
  /** Index into `interfaces` */
  readonly interface?: number;
  /** With prefix length */
  readonly address: string;
  readonly gateway?: string;
}

export interface CniRoute {
  readonly dst: string;
  readonly gw?: string;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: number;
}

export interface CniDns {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}

/**
 * Reads what a plugin printed. A missing version means the configuration's; `null` is an empty result; members that the
 * version does not know are dropped. Throws `failed to unmarshal raw result: ...` and `unsupported CNI result version`.
 */
export function parseResult(text: string, configVersion: string): CniResult {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (text.trim() === '') {
      throw new CrioError('unknown', 'failed to unmarshal raw result: unexpected end of JSON input');
    }
    throw wrap('failed to unmarshal raw result', error);
  }
  if (value !== null && !isJsonObject(value)) {
    throw new CrioError('unknown', 'failed to unmarshal raw result: not an object');
  }
  return readResult(value ?? {}, configVersion);
}

/** The same for a value that is parsed already: the cached result. */
export function readResult(object: JsonObject, configVersion: string): CniResult {
  const given = text(object, 'cniVersion');
  const cniVersion = effectiveVersion(given === undefined || given === '' ? configVersion : given);
  if (!isKnownVersion(cniVersion)) {
    throw new CrioError('unknown', `unsupported CNI result version "${cniVersion}"`);
  }
  return isAtLeast(cniVersion, '0.3.0') ? readLists(object, cniVersion) : readFamilies(object, cniVersion);
}

/** The result as JSON of the given version: what plugins get as prevResult and what the cache holds. */
export function formatResult(result: CniResult, version: string): JsonObject {
  const cniVersion = effectiveVersion(version);
  if (compareVersions(cniVersion, '0.3.0') < 0) return formatFamilies(result, cniVersion);
  const isOld = compareVersions(cniVersion, '1.0.0') < 0;
  return compact({
    cniVersion,
    interfaces: nonEmpty(result.interfaces?.map((item) => (isOld ? oldInterface(item) : compact({ ...item })))),
    ips: nonEmpty(result.ips?.map((ip) => formatIp(ip, isOld))),
    routes: nonEmpty(result.routes?.map((route) => (isOld ? oldRoute(route) : compact({ ...route })))),
    // Versions before 1.0 always have the member.
    dns: isOld ? formatDns(result.dns ?? {}) : result.dns === undefined ? undefined : formatDns(result.dns),
  });
}

/** Addresses without prefix length, in result order. */
export function addressesOf(result: CniResult): string[] {
  return (result.ips ?? []).map((ip) => ip.address.slice(0, ip.address.indexOf('/')));
}

/** The form CRI-O keeps for itself. */
export function toCurrent(result: CniResult): JsonObject {
  return formatResult(result, currentVersion);
}

function readLists(object: JsonObject, cniVersion: string): CniResult {
  const isNew = isAtLeast(cniVersion, '1.0.0');
  const interfaces = members(object, 'interfaces').map((item) => readInterface(item, isNew));
  const ips = members(object, 'ips').map(readIp);
  const routes = members(object, 'routes').map((item) => readRoute(item, isNew));
  return definedOnly({
    cniVersion,
    interfaces: nonEmpty(interfaces),
    ips: nonEmpty(ips),
    routes: nonEmpty(routes),
    dns: readDns(object['dns']),
  });
}

/** Versions 0.1 and 0.2: one address per family, each with its routes. */
function readFamilies(object: JsonObject, cniVersion: string): CniResult {
  const ips: CniIp[] = [];
  const routes: CniRoute[] = [];
  for (const key of ['ip4', 'ip6']) {
    const family = object[key];
    if (!isJsonObject(family)) continue;
    const address = text(family, 'ip') ?? '';
    checkCidr(address);
    const gateway = text(family, 'gateway');
    ips.push(definedOnly({ address, gateway }));
    for (const route of members(family, 'routes'))
      routes.push(definedOnly({ gw: gateway, ...readRoute(route, false) }));
  }
  return definedOnly({ cniVersion, ips: nonEmpty(ips), routes: nonEmpty(routes), dns: readDns(object['dns']) });
}

function formatFamilies(result: CniResult, cniVersion: string): JsonObject {
  const first = (family: number) => result.ips?.find((ip) => familyOf(ip.address) === family);
  const format = (family: number) => {
    const ip = first(family);
    if (ip === undefined) return undefined;
    const routes = (result.routes ?? []).filter((route) => familyOf(route.dst) === family).map(oldRoute);
    return compact({ ip: ip.address, gateway: ip.gateway, routes: nonEmpty(routes) });
  };
  const ip4 = format(4);
  const ip6 = format(6);
  if (ip4 === undefined && ip6 === undefined) {
    throw new CrioError('unknown', 'cannot convert: no valid IP addresses');
  }
  return compact({ cniVersion, ip4, ip6, dns: formatDns(result.dns ?? {}) });
}

function readInterface(object: JsonObject, isNew: boolean): CniInterface {
  return definedOnly({
    name: text(object, 'name') ?? '',
    mac: text(object, 'mac'),
    mtu: isNew ? integer(object, 'mtu') : undefined,
    sandbox: text(object, 'sandbox'),
    socketPath: isNew ? text(object, 'socketPath') : undefined,
    pciID: isNew ? text(object, 'pciID') : undefined,
  });
}

function readIp(object: JsonObject): CniIp {
  const address = text(object, 'address') ?? '';
  checkCidr(address);
  return definedOnly({ interface: index(object, 'interface'), address, gateway: text(object, 'gateway') });
}

function readRoute(object: JsonObject, isNew: boolean): CniRoute {
  const dst = text(object, 'dst') ?? '';
  checkCidr(dst);
  return definedOnly({
    dst,
    gw: text(object, 'gw'),
    mtu: isNew ? integer(object, 'mtu') : undefined,
    advmss: isNew ? integer(object, 'advmss') : undefined,
    priority: isNew ? integer(object, 'priority') : undefined,
    table: isNew ? index(object, 'table') : undefined,
    scope: isNew ? index(object, 'scope') : undefined,
  });
}

function readDns(value: Json | undefined): CniDns | undefined {
  if (!isJsonObject(value)) return undefined;
  const dns = definedOnly({
    nameservers: texts(value, 'nameservers'),
    domain: text(value, 'domain'),
    search: texts(value, 'search'),
    options: texts(value, 'options'),
  });
  return Object.keys(dns).length === 0 ? undefined : dns;
}

function formatIp(ip: CniIp, isOld: boolean): JsonObject {
  return compact({ version: isOld ? String(familyOf(ip.address)) : undefined, ...ip });
}

function formatDns(dns: CniDns): JsonObject {
  return compact({ ...dns });
}

function oldInterface(item: CniInterface): JsonObject {
  return compact({ name: item.name, mac: item.mac, sandbox: item.sandbox });
}

function oldRoute(route: CniRoute): JsonObject {
  return compact({ dst: route.dst, gw: route.gw });
}

/** 4 or 6; 0 when it is no address. */
export function familyOf(cidr: string): number {
  return isIP(cidr.split('/')[0] ?? '');
}

function checkCidr(value: string): void {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(value);
  const family = match === null ? 0 : isIP(match[1] ?? '');
  if (family === 0 || Number(match?.[2]) > (family === 4 ? 32 : 128)) {
    throw new CrioError('unknown', `failed to unmarshal raw result: invalid CIDR address: ${value}`);
  }
}

function members(object: JsonObject, key: string): JsonObject[] {
  const value = object[key];
  return Array.isArray(value) ? value.filter(isJsonObject) : [];
}

function text(object: JsonObject, key: string): string | undefined {
  const value = Object.hasOwn(object, key) ? object[key] : undefined;
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function texts(object: JsonObject, key: string): string[] | undefined {
  const value = object[key];
  if (!Array.isArray(value)) return undefined;
  return nonEmpty(value.filter((item): item is string => typeof item === 'string'));
}

/** 0 is left out, as by Go's omitempty. */
function integer(object: JsonObject, key: string): number | undefined {
  const value = object[key];
  return typeof value === 'number' && Number.isInteger(value) && value !== 0 ? value : undefined;
}

/** A pointer in Go: 0 is a value. */
function index(object: JsonObject, key: string): number | undefined {
  const value = object[key];
  return typeof value === 'number' && Number.isInteger(value) ? value : undefined;
}

function nonEmpty<T>(list: T[] | undefined): T[] | undefined {
  return list === undefined || list.length === 0 ? undefined : list;
}

type Defined<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

function definedOnly<T extends object>(object: T): Defined<T> {
  // The filter removes exactly the members whose type was `undefined`.
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Defined<T>;
}

function compact(object: { readonly [key: string]: unknown }): JsonObject {
  // Members are JSON values or undefined by construction; the undefined ones go.
  return definedOnly(object) as JsonObject;
}
