import { CrioError, hasCode, wrap } from '../../base/errors.ts';
import { KeyedLock } from '../../base/keyed-lock.ts';
import type { Logger } from '../../base/log.ts';
import { run } from '../../sys/run.ts';
import { chainNamesOf, jumpRules, parseSave, restoreInputToAdd, restoreInputToRemove } from './iptables.ts';
import type { Family, HostPortPod } from './mapping.ts';
import {
  addScript,
  deleteScript,
  elementComment,
  elementsOf,
  nftTable,
  parseElements,
  type NftElement,
} from './nftables.ts';

/** Ports of the node that lead to pods, programmed into the kernel here and not by a CNI plugin. */
export interface HostPorts {
  add(pod: HostPortPod): Promise<void>;
  /** Removes what either backend has for the pod; nothing there is success. */
  remove(pod: HostPortPod): Promise<void>;
  /** Removes rules of pods that are not among these. */
  prune(livePodIds: Iterable<string>): Promise<void>;
}

const families: readonly Family[] = [4, 6];
const familyName = { 4: 'ip', 6: 'ip6' } as const;
const programTimeoutMs = 30_000;

export type Backend = 'nft' | 'iptables';

export interface HostPortsOptions {
  /** Ids of the pods whose rules may stay when a port is found taken. */
  readonly livePods: () => Iterable<string>;
  /** Default: nft when it can be used. */
  readonly backend?: Backend;
  readonly log: Logger;
}

export function createHostPorts(options: HostPortsOptions): HostPorts {
  const { log, livePods } = options;
  // Both backends read, decide and write: one at a time.
  const lock = new KeyedLock();
  let backend: Promise<Backend> | undefined = options.backend && Promise.resolve(options.backend);
  const alone = <T>(work: () => Promise<T>) => lock.run('host ports', work);
  return {
    add: (pod) =>
      alone(async () => {
        backend ??= chooseBackend(log);
        const add = (await backend) === 'nft' ? addWithNft : addWithIptables;
        for (const [family, ports] of pod.ports) await add(pod, family, { ports, livePods, log });
        await forgetConnections(pod);
      }),
    remove: (pod) =>
      alone(async () => {
        const own = elementComment(pod.id);
        await deleteElements((element) => element.comment === own);
        await removeWithIptables(pod, log);
      }),
    prune: (ids) =>
      alone(async () => {
        const live = new Set([...ids].map(elementComment));
        await deleteElements((element) => !live.has(element.comment));
      }),
  };
}

interface AddOptions {
  readonly ports: Parameters<typeof elementsOf>[2];
  readonly livePods: () => Iterable<string>;
  readonly log: Logger;
}

/** A taken port fails the whole transaction; when only a lost pod holds it, its elements go and it is tried again. */
async function addWithNft(pod: HostPortPod, family: Family, options: AddOptions): Promise<void> {
  const elements = elementsOf(pod.id, family, options.ports);
  try {
    await nft(addScript(family, elements));
  } catch (error) {
    const stale = await staleElements(elements, family, options.livePods);
    if (stale.length === 0) throw error;
    options.log.warn(() => `Removing ${stale.length} host port rules of pods that are gone`);
    await nft(addScript(family, elements, stale));
  }
}

async function staleElements(
  wanted: readonly NftElement[],
  family: Family,
  livePods: () => Iterable<string>,
): Promise<NftElement[]> {
  const keys = new Set(wanted.map((element) => `${element.container} ${element.key}`));
  const live = new Set([...livePods()].map(elementComment));
  const taken = (await listElements(family)).filter((element) => keys.has(`${element.container} ${element.key}`));
  const own = new Set(wanted.map((element) => element.comment));
  return taken.filter((element) => !live.has(element.comment) && !own.has(element.comment));
}

async function deleteElements(isGone: (element: NftElement) => boolean): Promise<void> {
  for (const family of families) {
    const gone = (await listElements(family)).filter(isGone);
    if (gone.length > 0) await nft(deleteScript(gone));
  }
}

/** No table, or no nft at all, is an empty list. */
async function listElements(family: Family): Promise<NftElement[]> {
  const result = await program('nft', ['-j', 'list', 'table', familyName[family], nftTable]);
  return result === undefined || result.code !== 0 ? [] : parseElements(result.stdout.toString('utf8'), family);
}

async function nft(script: string): Promise<void> {
  const result = await program('nft', ['-f', '-'], script);
  if (result?.code === 0) return;
  throw new CrioError('unknown', `nft: ${result === undefined ? 'not found' : firstLines(result.stderr)}`);
}

/** nft needs 1.0.1 and a kernel that takes our rules; else iptables. */
async function chooseBackend(log: Logger): Promise<Backend> {
  const result = await program('nft', ['--check', '-f', '-'], addScript(4, []));
  if (result?.code === 0) return 'nft';
  log.info(
    () =>
      `nftables cannot be used for host ports, using iptables: ${result === undefined ? 'nft not found' : firstLines(result.stderr)}`,
  );
  return 'iptables';
}

async function addWithIptables(pod: HostPortPod, family: Family, options: AddOptions): Promise<void> {
  const own = { id: pod.id, name: pod.name, family, ports: options.ports };
  const command = family === 4 ? 'iptables' : 'ip6tables';
  const input = restoreInputToAdd(own, await saveNat(command));
  await expectSuccess(`${command}-restore`, ['--noflush', '--counters', '-w'], input);
  for (const [chain = '', ...rule] of jumpRules) {
    const present = await program(command, ['-w', '-t', 'nat', '-C', chain, ...rule]);
    if (present?.code !== 0) await expectSuccess(command, ['-w', '-t', 'nat', '-A', chain, ...rule]);
  }
}

async function removeWithIptables(pod: HostPortPod, log: Logger): Promise<void> {
  for (const [family, ports] of pod.ports) {
    const command = family === 4 ? 'iptables' : 'ip6tables';
    try {
      const names = chainNamesOf({ id: pod.id, name: pod.name, family, ports });
      const input = restoreInputToRemove(names, await saveNat(command));
      if (input !== undefined) await expectSuccess(`${command}-restore`, ['--noflush', '--counters', '-w'], input);
    } catch (error) {
      log.warn(`remove host port rules of pod ${pod.id} with ${command}`, error);
    }
  }
}

async function saveNat(command: string): Promise<ReturnType<typeof parseSave>> {
  const result = await program(`${command}-save`, ['-t', 'nat']);
  return result === undefined || result.code !== 0 ? new Map() : parseSave(result.stdout.toString('utf8'));
}

async function expectSuccess(command: string, args: readonly string[], input?: string): Promise<void> {
  const result = await program(command, args, input);
  if (result?.code === 0) return;
  throw new CrioError('unknown', `${command}: ${result === undefined ? 'not found' : firstLines(result.stderr)}`);
}

/** Old entries would keep sending datagrams to where the port led before. Best effort: the tool is often not installed. */
async function forgetConnections(pod: HostPortPod): Promise<void> {
  for (const [family, ports] of pod.ports) {
    for (const port of ports.filter((item) => item.protocol === 'udp')) {
      const args = ['-D', '-f', family === 4 ? 'ipv4' : 'ipv6', '-p', 'udp', '--orig-port-dst', String(port.hostPort)];
      await program('conntrack', args);
    }
  }
}

/** Runs a program of the node by name; undefined when it is not installed. */
async function program(
  name: string,
  args: readonly string[],
  input?: string,
): Promise<Awaited<ReturnType<typeof run>> | undefined> {
  for (const directory of programDirs) {
    try {
      return await run({
        file: `${directory}/${name}`,
        args,
        env: { PATH: programDirs.join(':'), LC_ALL: 'C' },
        timeoutMs: programTimeoutMs,
        ...(input === undefined ? {} : { input }),
      });
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'ENOTDIR')) throw wrap(`run ${name}`, error);
    }
  }
  return undefined;
}

const programDirs = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

function firstLines(output: Buffer): string {
  return output.toString('utf8').trim().split('\n').slice(0, 3).join(' ');
}
