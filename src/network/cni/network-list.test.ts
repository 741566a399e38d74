import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkAttachment, parseList, parseNetworkFile } from './network-list.ts';

const parse = (value: unknown) => parseList(Buffer.from(JSON.stringify(value)));
const bridge = { type: 'bridge', capabilities: { portMappings: true, mac: false } };

test('parseList reads a list and keeps its bytes', () => {
  const bytes = Buffer.from(` {"name":"crio","cniVersion":"0.4.0","plugins":[${JSON.stringify(bridge)}]}\n`);
  const list = parseList(bytes);
  assert.deepEqual([list.name, list.cniVersion, list.disableGc], ['crio', '0.4.0', false]);
  assert.deepEqual(
    list.plugins.map((plugin) => [plugin.type, ...plugin.capabilities]),
    [['bridge', 'portMappings']],
  );
  assert.equal(list.bytes, bytes);
});

test('parseList takes booleans and their words', () => {
  assert.equal(parse({ name: 'n', plugins: [bridge], disableGC: 'TRUE' }).disableGc, true);
  assert.throws(() => parse({ name: 'n', plugins: [bridge], disableCheck: 'yes' }), /invalid value for disableCheck/);
});

test('parseList refuses lists without name, plugins or types', () => {
  assert.throws(() => parse({ plugins: [bridge] }), /no name/);
  assert.throws(() => parse({ name: 'n', plugins: [] }), /no plugins in list/);
  assert.throws(() => parse({ name: 'n', plugins: [{}] }), /missing 'type'/);
  assert.throws(() => parse({ name: 'n', plugins: 'bridge' }), /invalid 'plugins' type/);
  assert.throws(() => parseList(Buffer.from('{')), /error parsing configuration/);
});

test('CVE-2021-20206: a plugin type cannot lead to another folder', () => {
  for (const type of ['../../bin/sh', '/bin/sh', 'a/b']) {
    assert.throws(() => parse({ name: 'n', plugins: [{ type }] }), /invalid plugin name/);
  }
});

test('cniVersions chooses the highest version that is not above ours', () => {
  const version = (cniVersion: string, cniVersions: string[]) =>
    parse({ name: 'n', plugins: [bridge], cniVersion, cniVersions }).cniVersion;
  assert.equal(version('0.3.1', ['1.0.0', '1.1.0', '9.0.0']), '1.1.0');
  assert.equal(version('1.0.0', ['0.4.0']), '1.0.0');
  assert.equal(version('9.9.9', []), '9.9.9');
});

test('a single plugin becomes a list', () => {
  const list = parseNetworkFile('/etc/cni/net.d/10-a.conf', Buffer.from('{"type":"bridge","cniVersion":"1.0.0"}'));
  assert.equal(list.name, '10-a.conf');
  assert.equal(
    list.bytes.toString(),
    '{"cniVersion":"1.0.0","name":"10-a.conf","plugins":[{"cniVersion":"1.0.0","type":"bridge"}]}',
  );
  assert.throws(
    () => parseNetworkFile('/x/a.json', Buffer.from('{"name":"n","plugins":[{"type":"a"}]}')),
    /missing 'type'/,
  );
});

test('parseList never fails otherwise than with a CrioError', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      try {
        parse(value);
      } catch (error) {
        assert.equal((error as Error).name, 'CrioError');
      }
    }),
  );
});

test('checkAttachment refuses names that mean something else in a path', () => {
  checkAttachment('a', 'b', 'eth0');
  assert.throws(() => checkAttachment('../a', 'b', 'eth0'));
  assert.throws(() => checkAttachment('a', '', 'eth0'));
  for (const name of ['', '.', '..', 'a/b', 'a b', 'a:b', 'sixteen-bytes-is'])
    assert.throws(() => checkAttachment('a', 'b', name));
});
