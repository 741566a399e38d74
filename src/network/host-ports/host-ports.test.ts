import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PortMapping } from '../../pod/config.ts';
import { chainNamesOf, parseSave, restoreInputToAdd, restoreInputToRemove } from './iptables.ts';
import { planHostPorts, shortHash } from './mapping.ts';
import { addScript, deleteScript, elementsOf, parseElements } from './nftables.ts';

const mapping = (changes: Partial<PortMapping> = {}): PortMapping => ({
  protocol: 'TCP',
  containerPort: 80,
  hostPort: 8080,
  hostIp: '',
  ...changes,
});

test('planHostPorts takes the first address of each family', () => {
  const plan = planHostPorts([mapping()], ['10.0.0.2', 'fd00::2', '10.0.0.3']);
  assert.deepEqual(plan.get(4), [
    { protocol: 'tcp', hostPort: 8080, hostIp: undefined, podIp: '10.0.0.2', podPort: 80 },
  ]);
  assert.equal(plan.get(6)?.[0]?.podIp, 'fd00::2');
});

test('planHostPorts respects the family of a host address', () => {
  const plan = planHostPorts(
    [mapping({ hostIp: '0.0.0.0' }), mapping({ hostIp: '192.0.2.1', hostPort: 1 }), mapping({ hostPort: 0 })],
    ['10.0.0.2', 'fd00::2'],
  );
  assert.deepEqual(
    plan.get(4)?.map((port) => port.hostIp),
    [undefined, '192.0.2.1'],
  );
  assert.equal(plan.has(6), false);
});

test('shortHash is the head of base32(sha256)', () => {
  // printf abc | sha256sum | xxd -r -p | base32 | head -c 16
  assert.equal(shortHash('abc'), 'XJ4BNP4PAHH6UQKB');
});

test('nftables elements are read back as they were written', () => {
  const elements = elementsOf('pod', 4, [
    ...(planHostPorts([mapping(), mapping({ hostIp: '192.0.2.1' })], ['10.0.0.2']).get(4) ?? []),
  ]);
  assert.deepEqual(
    elements.map((element) => [element.container, element.key, element.value]),
    [
      ['hostports', 'tcp . 8080', '10.0.0.2 . 80'],
      ['hostipports', '192.0.2.1 . tcp . 8080', '10.0.0.2 . 80'],
      ['hairpins', '10.0.0.2 . 10.0.0.2', undefined],
    ],
  );
  const comment = elements[0]?.comment;
  const listing = {
    nftables: [
      {
        map: {
          name: 'hostports',
          elem: [[{ elem: { val: { concat: ['tcp', 8080] }, comment } }, { concat: ['10.0.0.2', 80] }]],
        },
      },
      { set: { name: 'hairpins', elem: [{ elem: { val: { concat: ['10.0.0.2', '10.0.0.2'] }, comment } }] } },
      { map: { name: 'other', elem: [1] } },
    ],
  };
  assert.deepEqual(parseElements(JSON.stringify(listing), 4), [elements[0], elements[2]]);
});

test('addScript is one transaction that removes before it adds', () => {
  const [element] = elementsOf('pod', 6, planHostPorts([mapping()], ['fd00::2']).get(6) ?? []);
  assert.ok(element);
  const lines = addScript(6, [element], [element]).trim().split('\n');
  assert.equal(lines[0], 'add table ip6 crio-hostports { comment "HostPort rules created by CRI-O" ; }');
  assert.deepEqual(lines.slice(-2), [
    'delete element ip6 crio-hostports hostports { tcp . 8080 }',
    `add element ip6 crio-hostports hostports { tcp . 8080 comment "${element.comment}" : fd00::2 . 80 }`,
  ]);
  assert.equal(deleteScript([element]), 'delete element ip6 crio-hostports hostports { tcp . 8080 }\n');
});

const saved = `*nat
:PREROUTING ACCEPT [1:2]
:KUBE-HOSTPORTS - [0:0]
:CRIO-HOSTPORTS-MASQ - [0:0]
:KUBE-HP-OLD - [0:0]
-A KUBE-HOSTPORTS -p tcp -m tcp --dport 1 -j KUBE-HP-OLD
-A KUBE-HP-OLD -p tcp -j DNAT --to-destination 10.0.0.9:1
COMMIT
`;

test('iptables rules of other pods survive adding and removing', () => {
  const pod = {
    id: 'pod',
    name: 'web',
    family: 4,
    ports: planHostPorts([mapping()], ['10.0.0.2']).get(4) ?? [],
  } as const;
  const input = restoreInputToAdd(pod, parseSave(saved));
  const lines = input.split('\n');
  const [forward = ''] = chainNamesOf(pod);
  assert.match(forward, /^KUBE-HP-[A-Z2-7]{16}$/);
  const first = lines.findIndex((line) => line.startsWith('-A KUBE-HOSTPORTS'));
  assert.match(lines[first] ?? '', /--comment "web hostport 8080" -m tcp --dport 8080 -j KUBE-HP-/);
  assert.ok(lines.includes('-A KUBE-HOSTPORTS -p tcp -m tcp --dport 1 -j KUBE-HP-OLD'));
  assert.ok(lines.some((line) => line.endsWith('-j DNAT --to-destination 10.0.0.2:80')));
  const removal = restoreInputToRemove(chainNamesOf(pod), parseSave(input.replaceAll('COMMIT', '')));
  assert.ok(removal?.includes(`-X ${forward}\n`));
  assert.ok(removal?.includes('-j KUBE-HP-OLD'));
  assert.ok(!removal?.includes('8080'));
  assert.equal(restoreInputToRemove(chainNamesOf(pod), parseSave(saved)), undefined);
});
