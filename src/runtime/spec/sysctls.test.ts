import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NamespaceMode, type NamespaceOptions } from '../../pod/config.ts';
import { chooseSysctls } from './sysctls.ts';

const podNamespaces: NamespaceOptions = {
  network: NamespaceMode.pod,
  pid: NamespaceMode.pod,
  ipc: NamespaceMode.pod,
  targetId: '',
  userns: undefined,
};

function choose(requested: Record<string, string>, namespaces: Partial<NamespaceOptions> = {}) {
  return chooseSysctls({
    defaults: ['net.core.somaxconn=1', 'kernel.sem=1 2 3 4'],
    requested: new Map(Object.entries(requested)),
    namespaces: { ...podNamespaces, ...namespaces },
    gidMap: [],
  });
}

test('chooseSysctls lets the pod override the defaults', () => {
  const { sysctls, warnings } = choose({
    'net.core.somaxconn': '5',
    'kernel.shm_rmid_forced': '1',
    'fs.mqueue.msg_max': '20',
  });
  assert.equal(sysctls.get('net.core.somaxconn'), '5');
  assert.equal(sysctls.size, 4);
  assert.deepEqual(warnings, []);
});

test('CVE-2022-0532: sysctls of a namespace the pod shares with the host are left out', () => {
  const { sysctls, warnings } = choose(
    { 'net.ipv4.ip_forward': '1' },
    { network: NamespaceMode.node, ipc: NamespaceMode.node },
  );
  assert.equal(sysctls.size, 0);
  assert.equal(warnings.length, 3);
  assert.match(warnings.join('\n'), /the pod uses the network namespace of the host/);
});

test('sysctls without a namespace are left out', () => {
  const { sysctls } = choose({ 'kernel.core_pattern': '|/evil', 'vm.swappiness': '1', 'kernel.semx': '1' });
  assert.deepEqual([...sysctls.keys()], ['net.core.somaxconn', 'kernel.sem']);
});

test('CVE-2022-0811: separators in keys and values never get through', () => {
  const hostile = {
    'net.ipv4.x+kernel.core_pattern': '1',
    'net.ipv4.tcp_syncookies': '1+kernel.core_pattern=|/evil',
    'kernel.shm_rmid_forced': '1\nkernel.core_pattern=|/evil',
    'net.ipv4.a=b': '1',
    'net.//.//.kernel.core_pattern': '1',
    'net..': '1',
    'net/../kernel.core_pattern': '1',
  };
  const { sysctls, warnings } = choose(hostile);
  assert.equal(sysctls.size, 2);
  assert.equal(warnings.length, Object.keys(hostile).length);
});

test('no accepted sysctl leaves /proc/sys/net, /proc/sys/kernel or /proc/sys/fs/mqueue', () => {
  const part = fc.constantFrom('net', 'kernel', 'shm', 'fs', 'mqueue', '.', '..', '/', '+', '=', 'a');
  fc.assert(
    fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
      const { sysctls } = chooseSysctls({
        defaults: [],
        requested: new Map([[parts.join(''), '1']]),
        namespaces: podNamespaces,
        gidMap: [],
      });
      for (const key of sysctls.keys()) {
        // both readings of the separators
        for (const path of [key.replaceAll('.', '/'), key.replaceAll(/[./]/g, (c) => (c === '.' ? '/' : '.'))]) {
          assert.ok(!path.split('/').some((name) => name === '' || name === '.' || name === '..'), path);
        }
      }
    }),
  );
});

test('ping_group_range is cut to the mapped groups', () => {
  const gidMap = [{ containerId: 0, hostId: 100000, size: 65536 }];
  const requested = new Map([['net.ipv4.ping_group_range', '0 2147483647']]);
  const { sysctls } = chooseSysctls({ defaults: [], requested, namespaces: podNamespaces, gidMap });
  assert.equal(sysctls.get('net.ipv4.ping_group_range'), '0 65535');
});
