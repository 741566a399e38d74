import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sysctlPath, writeSysctl } from './namespace.ts';

test('sysctlPath takes dots and slashes as sysctl(8) does', () => {
  assert.equal(sysctlPath('net.ipv4.ip_forward'), 'net/ipv4/ip_forward');
  assert.equal(sysctlPath('net/ipv4/conf/eth0.100/forwarding'), 'net/ipv4/conf/eth0.100/forwarding');
  assert.equal(sysctlPath('net.ipv4.conf.eth0/100.forwarding'), 'net/ipv4/conf/eth0.100/forwarding');
});

test('writeSysctl refuses names that leave /proc/sys', () => {
  for (const name of ['../x', 'net/../../x', '/etc/x', '', 'a b', 'net..x']) {
    assert.throws(() => writeSysctl(name, '1'), { kind: 'invalid' });
  }
});
