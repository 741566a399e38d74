import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '../../base/log.ts';
import { run } from '../../sys/run.ts';
import { createHostPorts, type Backend } from './host-ports.ts';
import { planHostPorts, type HostPortPod } from './mapping.ts';

/** With the real nft and iptables; these need root and a network namespace of their own. */

const environment = { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin' };

function pod(id: string, hostPort: number, ips: readonly string[]): HostPortPod {
  const mappings = [
    { protocol: 'TCP', containerPort: 80, hostPort, hostIp: '' },
    { protocol: 'UDP', containerPort: 53, hostPort, hostIp: '127.0.0.1' },
  ] as const;
  return { id, name: `pod-${id}`, ports: planHostPorts(mappings, ips) };
}

async function rules(backend: Backend, family: 4 | 6): Promise<string> {
  const list =
    backend === 'nft' ? ['nft', 'list', 'ruleset'] : [family === 4 ? 'iptables-save' : 'ip6tables-save', '-t', 'nat'];
  const { stdout } = await run({ file: list[0] ?? '', args: list.slice(1), env: environment });
  return stdout.toString();
}

for (const backend of ['nft', 'iptables'] as const) {
  test(`ports of one pod come and go without those of another (${backend})`, async () => {
    const hostPorts = createHostPorts({ livePods: () => ['a', 'b'], backend, log: silentLog });
    const a = pod('a', 18_001, ['10.1.0.2', 'fd00:1::2']);
    const b = pod('b', 18_002, ['10.1.0.3']);
    await hostPorts.add(a);
    await hostPorts.add(b);
    // The same again changes nothing.
    await hostPorts.add(b);
    const both = await rules(backend, 4);
    assert.match(both, /18001/);
    assert.match(both, /10\.1\.0\.3/);
    assert.match(await rules(backend, 6), /fd00:1::2/);
    await hostPorts.remove(a);
    const one = await rules(backend, 4);
    assert.doesNotMatch(one, /18001|10\.1\.0\.2/);
    assert.match(one, /18002/);
    assert.doesNotMatch(await rules(backend, 6), /fd00:1::2/);
    await hostPorts.remove(b);
    await hostPorts.remove(b);
    assert.doesNotMatch(await rules(backend, 4), /1800[12]/);
  });
}

test('prune removes the elements of pods that are gone', async () => {
  const hostPorts = createHostPorts({ livePods: () => [], log: silentLog });
  await hostPorts.add(pod('a', 18_001, ['10.1.0.2']));
  await hostPorts.add(pod('b', 18_002, ['10.1.0.3']));
  await hostPorts.prune(['b']);
  const left = await rules('nft', 4);
  assert.doesNotMatch(left, /18001/);
  assert.match(left, /18002/);
  await hostPorts.prune([]);
  for (const family of ['ip', 'ip6'])
    await run({ file: 'nft', args: ['delete', 'table', family, 'crio-hostports'], env: environment });
});
