import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { goJson } from '../../base/go-json.ts';
import { addressesOf, formatResult, parseResult, toCurrent, type CniResult } from './result.ts';
import { knownVersions } from './version.ts';

const old = {
  cniVersion: '0.4.0',
  interfaces: [
    { name: 'cni0', mac: '8a:97:da:cf:af:69' },
    { name: 'eth0', mac: 'f6:65:49:eb:5b:58', sandbox: '/var/run/netns/x' },
  ],
  ips: [{ version: '4', interface: 1, address: '10.88.0.10/24', gateway: '10.88.0.1' }],
  routes: [{ dst: '0.0.0.0/0' }],
  dns: {},
};

test('toCurrent gives the text that CRI-O keeps', () => {
  const text = goJson(toCurrent(parseResult(JSON.stringify(old), '0.4.0')));
  assert.equal(
    text,
    '{"cniVersion":"1.1.0","interfaces":[{"mac":"8a:97:da:cf:af:69","name":"cni0"},{"mac":"f6:65:49:eb:5b:58","name":"eth0",' +
      '"sandbox":"/var/run/netns/x"}],"ips":[{"address":"10.88.0.10/24","gateway":"10.88.0.1","interface":1}],"routes":[{"dst":"0.0.0.0/0"}]}',
  );
});

test('formatResult gives an old result back as it was', () => {
  assert.deepEqual(formatResult(parseResult(JSON.stringify(old), '0.4.0'), '0.4.0'), old);
});

test('a missing version is the one of the configuration, and null is an empty result', () => {
  assert.deepEqual(parseResult('null', '1.0.0'), { cniVersion: '1.0.0' });
  assert.deepEqual(parseResult('{"ips":[]}', ''), { cniVersion: '0.1.0' });
});

test('parseResult refuses what is no result', () => {
  assert.throws(() => parseResult('', '1.0.0'), {
    message: 'failed to unmarshal raw result: unexpected end of JSON input',
  });
  assert.throws(() => parseResult('{"cniVersion":"9.9.9"}', '1.0.0'), {
    message: 'unsupported CNI result version "9.9.9"',
  });
  assert.throws(() => parseResult('{"ips":[{"address":"10.0.0.1"}]}', '1.0.0'), /invalid CIDR address: 10\.0\.0\.1/);
  assert.throws(() => parseResult('{"ips":[{"address":"10.0.0.1/33"}]}', '1.0.0'), /invalid CIDR address/);
});

test('members that the version does not know are dropped', () => {
  const text =
    '{"cniVersion":"0.4.0","extra":1,"interfaces":[{"name":"a","mtu":1500}],"routes":[{"dst":"::/0","priority":3}]}';
  assert.deepEqual(parseResult(text, ''), {
    cniVersion: '0.4.0',
    interfaces: [{ name: 'a' }],
    routes: [{ dst: '::/0' }],
  });
  const kept = parseResult(text.replace('0.4.0', '1.1.0'), '');
  assert.deepEqual(kept.interfaces, [{ name: 'a', mtu: 1500 }]);
  assert.deepEqual(kept.routes, [{ dst: '::/0', priority: 3 }]);
});

test('versions before 0.3 hold one address of each family with its routes', () => {
  const result: CniResult = {
    cniVersion: '1.0.0',
    ips: [{ address: '10.0.0.2/24', gateway: '10.0.0.1' }, { address: '10.0.0.3/24' }, { address: 'fd00::2/64' }],
    routes: [{ dst: '0.0.0.0/0', gw: '10.0.0.1' }, { dst: '::/0' }],
  };
  assert.deepEqual(formatResult(result, '0.2.0'), {
    cniVersion: '0.2.0',
    ip4: { ip: '10.0.0.2/24', gateway: '10.0.0.1', routes: [{ dst: '0.0.0.0/0', gw: '10.0.0.1' }] },
    ip6: { ip: 'fd00::2/64', routes: [{ dst: '::/0' }] },
    dns: {},
  });
  assert.throws(() => formatResult({ cniVersion: '1.0.0' }, '0.1.0'), {
    message: 'cannot convert: no valid IP addresses',
  });
});

const ip4 = fc.ipV4().map((address) => ({ address: `${address}/24` }));
const ip6 = fc.ipV6().map((address) => ({ address: `${address}/64` }));
const results = fc.record({
  cniVersion: fc.constantFrom(...knownVersions),
  ips: fc.array(fc.oneof(ip4, ip6), { minLength: 1, maxLength: 4 }),
});

test('addresses survive a conversion to every version that holds lists, and back', () => {
  fc.assert(
    fc.property(results, fc.constantFrom(...knownVersions.slice(2)), (result, version) => {
      const converted = parseResult(goJson(formatResult(result, version)), '');
      assert.equal(converted.cniVersion, version);
      assert.deepEqual(addressesOf(converted), addressesOf(result));
    }),
  );
});

test('parseResult fails for hostile output with a CrioError only', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      try {
        parseResult(text, '1.0.0');
      } catch (error) {
        assert.equal((error as Error).name, 'CrioError');
      }
    }),
  );
});
