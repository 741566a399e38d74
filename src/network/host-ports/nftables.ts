import { isJsonArray, isJsonObject, type Json, type JsonObject } from '../../base/go-json.ts';
import { shortHash, type Family, type HostPort } from './mapping.ts';

/** The rules as CRI-O writes them, so that either daemon can remove what the other has added. */
export const nftTable = 'crio-hostports';
const comment = 'HostPort rules created by CRI-O';
const familyName = { 4: 'ip', 6: 'ip6' } as const;
const addressType = { 4: 'ipv4_addr', 6: 'ipv6_addr' } as const;

/** An element of one of our maps or of the set. */
export interface NftElement {
  readonly family: Family;
  readonly container: 'hostports' | 'hostipports' | 'hairpins';
  /** As nft prints and reads it: `tcp . 8080` */
  readonly key: string;
  /** `10.0.0.2 . 80`; undefined for the set */
  readonly value: string | undefined;
  readonly comment: string;
}

/** Comment of the elements of one pod. */
export function elementComment(podId: string): string {
  return shortHash(podId);
}

/** Elements for the ports of one pod and family; the hairpin once. Pure. */
export function elementsOf(podId: string, family: Family, ports: readonly HostPort[]): NftElement[] {
  const own = elementComment(podId);
  const elements = ports.map((port): NftElement => {
    const service = `${port.protocol} . ${port.hostPort}`;
    return {
      family,
      container: port.hostIp === undefined ? 'hostports' : 'hostipports',
      key: port.hostIp === undefined ? service : `${port.hostIp} . ${service}`,
      value: `${port.podIp} . ${port.podPort}`,
      comment: own,
    };
  });
  const podIps = new Set(ports.map((port) => port.podIp));
  for (const ip of podIps)
    elements.push({ family, container: 'hairpins', key: `${ip} . ${ip}`, value: undefined, comment: own });
  return elements;
}

/** One transaction: objects made if missing, rules written again, `remove` deleted, `add` added. Pure. */
export function addScript(family: Family, add: readonly NftElement[], remove: readonly NftElement[] = []): string {
  return [...skeleton(family), ...remove.map(deleteLine), ...add.map(addLine)].join('\n') + '\n';
}

/** Deletes elements; pure. */
export function deleteScript(elements: readonly NftElement[]): string {
  return elements.map(deleteLine).join('\n') + '\n';
}

function skeleton(family: Family): string[] {
  const table = `${familyName[family]} ${nftTable}`;
  const address = addressType[family];
  const ip = familyName[family];
  const service = 'inet_proto . inet_service';
  return [
    `add table ${table} { comment "${comment}" ; }`,
    `add map ${table} hostports { type ${service} : ${address} . inet_service ; }`,
    `add map ${table} hostipports { type ${address} . ${service} : ${address} . inet_service ; }`,
    `add set ${table} hairpins { type ${address} . ${address} ; }`,
    `add chain ${table} hostports`,
    `flush chain ${table} hostports`,
    `add rule ${table} hostports dnat ${ip} addr . port to ${ip} daddr . meta l4proto . th dport map @hostipports`,
    `add rule ${table} hostports dnat ${ip} addr . port to meta l4proto . th dport map @hostports`,
    ...['prerouting', 'output'].flatMap((hook) => [
      `add chain ${table} ${hook} { type nat hook ${hook} priority -100 ; }`,
      `flush chain ${table} ${hook}`,
      `add rule ${table} ${hook} fib daddr type local goto hostports`,
    ]),
    `add chain ${table} masquerading { type nat hook postrouting priority 100 ; }`,
    `flush chain ${table} masquerading`,
    `add rule ${table} masquerading ct status & (dnat | snat) == dnat ${ip} saddr . ${ip} daddr @hairpins masquerade`,
  ];
}

function addLine(element: NftElement): string {
  const value = element.value === undefined ? '' : ` : ${element.value}`;
  return `add element ${place(element)} { ${element.key} comment "${element.comment}"${value} }`;
}

function deleteLine(element: NftElement): string {
  return `delete element ${place(element)} { ${element.key} }`;
}

function place(element: NftElement): string {
  return `${familyName[element.family]} ${nftTable} ${element.container}`;
}

/** Elements of our maps and sets from `nft -j list table <family> crio-hostports`. Pure. */
export function parseElements(output: string, family: Family): NftElement[] {
  const document: unknown = JSON.parse(output);
  const objects = isJsonObject(document) ? document['nftables'] : undefined;
  if (!Array.isArray(objects)) return [];
  return objects.filter(isJsonObject).flatMap((object: JsonObject) => elementsOfObject(object, family));
}

function elementsOfObject(object: JsonObject, family: Family): NftElement[] {
  const container = object['map'] ?? object['set'];
  if (!isJsonObject(container) || !isJsonArray(container['elem'])) return [];
  const name = container['name'];
  if (name !== 'hostports' && name !== 'hostipports' && name !== 'hairpins') return [];
  return container['elem'].flatMap((item): NftElement[] => {
    // A map's element is [key, value], a set's the key alone.
    const [key, value] = name !== 'hairpins' && isJsonArray(item) ? item : [item];
    const text = concatText(unwrap(key));
    if (text === undefined) return [];
    return [{ family, container: name, key: text, value: concatText(value), comment: commentOf(key) }];
  });
}

function unwrap(value: Json | undefined): Json | undefined {
  if (!isJsonObject(value) || !isJsonObject(value['elem'])) return value;
  return value['elem']['val'];
}

function commentOf(value: Json | undefined): string {
  if (!isJsonObject(value) || !isJsonObject(value['elem'])) return '';
  const text = value['elem']['comment'];
  return typeof text === 'string' ? text : '';
}

function concatText(value: Json | undefined): string | undefined {
  if (!isJsonObject(value) || !Array.isArray(value['concat'])) return undefined;
  return value['concat'].map(String).join(' . ');
}
