import { shortHash, type Family, type HostPort } from './mapping.ts';

/**
 * The fallback where nft is too old: rules in the nat table, written with one `iptables-restore --noflush`. Naming a
 * chain there empties it, so every existing rule of a named chain is written again.
 */
const portsChain = 'KUBE-HOSTPORTS';
const masqueradeChain = 'CRIO-HOSTPORTS-MASQ';

/** Chain name to its rules (`-A CHAIN ...`), from `iptables-save -t nat`. Only our chains. */
export type OwnChains = ReadonlyMap<string, readonly string[]>;

/** Reads our chains; pure. */
export function parseSave(output: string): OwnChains {
  const chains = new Map<string, string[]>();
  for (const line of output.split('\n')) {
    const declared = /^:(\S+) /.exec(line)?.[1];
    if (declared !== undefined && isOwn(declared)) chains.set(declared, []);
    const ruleOf = /^-A (\S+) /.exec(line)?.[1];
    if (ruleOf !== undefined) chains.get(ruleOf)?.push(line);
  }
  return chains;
}

function isOwn(chain: string): boolean {
  return chain === portsChain || chain === masqueradeChain || /^(KUBE-HP|CRIO-MASQ)-/.test(chain);
}

/** Rules that lead to our chains: arguments of `iptables -t nat`, to be checked with -C and appended with -A. */
export const jumpRules: readonly (readonly string[])[] = [
  ...['PREROUTING', 'OUTPUT'].map((chain) => [
    chain,
    ...[
      '-m',
      'comment',
      '--comment',
      'kube hostport portals',
      '-m',
      'addrtype',
      '--dst-type',
      'LOCAL',
      '-j',
      portsChain,
    ],
  ]),
  [
    'POSTROUTING',
    ...['-m', 'comment', '--comment', 'kube hostport masquerading'],
    ...['-m', 'conntrack', '--ctstate', 'DNAT', '-j', masqueradeChain],
  ],
];

export interface IptablesPod {
  readonly id: string;
  readonly name: string;
  readonly family: Family;
  readonly ports: readonly HostPort[];
}

/** Input of iptables-restore that adds the pod's rules in front of the existing ones; pure. */
export function restoreInputToAdd(pod: IptablesPod, existing: OwnChains): string {
  const chains = new Map<string, readonly string[]>([...emptyBase(), ...existing]);
  const own = podRules(pod);
  for (const chain of own.chains.keys()) chains.set(chain, []);
  const jumps = [...own.jumps.values()].flat();
  const kept = [...chains.values()].flat().filter((rule) => !jumps.includes(rule));
  return restoreInput([...chains.keys()], [...jumps, ...[...own.chains.values()].flat(), ...kept]);
}

/** Input that leaves the pod's rules out and deletes its chains; undefined when it has none there. Pure. */
export function restoreInputToRemove(chainNames: ReadonlySet<string>, existing: OwnChains): string | undefined {
  const gone = [...existing.keys()].filter((chain) => chainNames.has(chain));
  if (gone.length === 0) return undefined;
  const rules = [...existing]
    .filter(([chain]) => !chainNames.has(chain))
    .flatMap(([, lines]) => lines)
    .filter((line) => !chainNames.has(/ -j (\S+)/.exec(line)?.[1] ?? ''));
  return restoreInput([...existing.keys()], [...rules, ...gone.map((chain) => `-X ${chain}`)]);
}

/** Names of the chains of one pod. Pure. */
export function chainNamesOf(pod: IptablesPod): Set<string> {
  return new Set(podRules(pod).chains.keys());
}

function emptyBase(): [string, string[]][] {
  return [
    [portsChain, []],
    [masqueradeChain, []],
  ];
}

function podRules(pod: IptablesPod): { jumps: Map<string, string[]>; chains: Map<string, string[]> } {
  const jumps = new Map<string, string[]>();
  const chains = new Map<string, string[]>();
  for (const port of pod.ports) {
    const hash = shortHash(`${pod.id}${port.hostPort}${port.protocol.toUpperCase()}${port.hostIp ?? ''}`);
    const forward = `KUBE-HP-${hash}`;
    const masquerade = `CRIO-MASQ-${hash}`;
    const note = `-m comment --comment "${pod.name} hostport ${port.hostPort}"`;
    const target = pod.family === 6 ? `[${port.podIp}]` : port.podIp;
    const toHost = port.hostIp === undefined ? '' : ` -d ${port.hostIp}`;
    jumps.set(forward, [
      `-A ${portsChain} -p ${port.protocol} ${note} -m ${port.protocol} --dport ${port.hostPort} -j ${forward}`,
      `-A ${masqueradeChain} ${note} -j ${masquerade}`,
    ]);
    chains.set(forward, [
      `-A ${forward} -p ${port.protocol}${toHost} ${note} -m ${port.protocol} -j DNAT --to-destination ${target}:${port.podPort}`,
    ]);
    chains.set(masquerade, [
      `-A ${masquerade} -s ${port.podIp} -d ${port.podIp} -p ${port.protocol} ${note}` +
        ` -m conntrack --ctorigdstport ${port.hostPort} -m ${port.protocol} --dport ${port.podPort} -j MASQUERADE`,
    ]);
  }
  return { jumps, chains };
}

function restoreInput(chains: readonly string[], rules: readonly string[]): string {
  return ['*nat', ...chains.map((chain) => `:${chain} - [0:0]`), ...rules, 'COMMIT', ''].join('\n');
}
