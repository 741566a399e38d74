import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseHostname, formatResolvConf } from './network-files.ts';
import { formatIdMap } from './user-namespaces.ts';
import { chooseShmSize } from './shm.ts';
import { parseQuantity } from '../base/quantity.ts';

test('formatResolvConf has the order of CRI-O', () => {
  const dns = { servers: ['10.88.0.1', '10.88.0.2'], searches: ['a', 'b'], options: ['ndots:5', 'edns0'] };
  assert.equal(
    formatResolvConf(dns),
    'search a b\nnameserver 10.88.0.1\nnameserver 10.88.0.2\noptions ndots:5 edns0\n',
  );
  assert.equal(formatResolvConf({ servers: [], searches: [], options: [] }), undefined);
  assert.equal(formatResolvConf({ servers: ['1.1.1.1'], searches: [], options: [] }), 'nameserver 1.1.1.1\n');
  assert.throws(
    () => formatResolvConf({ servers: ['1.1.1.1\nnameserver 6.6.6.6'], searches: [], options: [] }),
    /line breaks/,
  );
});

test('chooseHostname falls back to the host or the id', () => {
  const base = { requested: '', hostNetwork: false, hostHostname: 'vm', id: '0123456789abcdef' };
  assert.equal(chooseHostname(base), '0123456789ab');
  assert.equal(chooseHostname({ ...base, hostNetwork: true }), 'vm');
  assert.equal(chooseHostname({ ...base, requested: 'own', hostNetwork: true }), 'own');
});

test('chooseShmSize takes the annotation, which must be above 0', () => {
  assert.equal(chooseShmSize(undefined, parseQuantity), 64 * 2 ** 20);
  assert.equal(chooseShmSize('1Gi', parseQuantity), 2 ** 30);
  assert.throws(() => chooseShmSize('0', parseQuantity), /must be greater than 0/);
  assert.throws(() => chooseShmSize('much', parseQuantity), /failed to parse shm size 'much'/);
});

test('formatIdMap writes a line per range', () => {
  assert.equal(
    formatIdMap([
      { containerId: 0, hostId: 100_000, size: 65_536 },
      { containerId: 65_536, hostId: 1, size: 1 },
    ]),
    '0 100000 65536\n65536 1 1\n',
  );
});
