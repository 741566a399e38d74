import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatCacheFile, parseCacheFile, parseCacheName } from './cache.ts';
import { parseList } from './network-list.ts';
import { parseResult } from './result.ts';

/** A file as CRI-O wrote it, with a short configuration. */
const config = '{"cniVersion":"0.4.0","name":"crio","plugins":[{"type":"bridge"}]}\n';
const recorded =
  '{"kind":"cniCacheV1","containerId":"73bf","config":"' +
  Buffer.from(config).toString('base64') +
  '","ifName":"eth0","networkName":"crio",' +
  '"netns":"/var/run/netns/9a8b","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAME","viarunc"]],' +
  '"capabilityArgs":{"cgroupPath":"/golden","io.kubernetes.cri.pod-annotations":{"note":"a \\"quoted\\" \\u003cvalue\\u003e"}},' +
  '"result":{"cniVersion":"0.4.0","dns":{},"interfaces":[{"mac":"8a:97:da:cf:af:69","name":"cni0"}],' +
  '"ips":[{"address":"10.88.0.13/24","gateway":"10.88.0.1","interface":2,"version":"4"}],"routes":[{"dst":"0.0.0.0/0"}]}}';

test('formatCacheFile writes what CRI-O writes, byte for byte', () => {
  const entry = parseCacheFile('/f', recorded);
  assert.ok(entry?.list !== undefined && entry.result !== undefined);
  assert.equal(formatCacheFile(entry.list, entry.attachment, entry.result), recorded);
});

test('an attachment without result, arguments and namespace has no such members', () => {
  const list = parseList(Buffer.from(config));
  const text = formatCacheFile(
    list,
    { containerId: 'c', netns: '', ifName: 'eth0', args: [], capabilities: {} },
    undefined,
  );
  assert.deepEqual(Object.keys(JSON.parse(text) as object), ['kind', 'containerId', 'config', 'ifName', 'networkName']);
  const entry = parseCacheFile('/f', text);
  assert.equal(entry?.result, undefined);
  assert.deepEqual(entry?.attachment.args, []);
});

test('parseCacheFile takes keys in any case, and no legacy file', () => {
  const entry = parseCacheFile('/f', recorded.replace('"containerId"', '"containerID"'));
  assert.equal(entry?.attachment.containerId, '73bf');
  assert.equal(parseCacheFile('/f', JSON.stringify(parseResult('{"cniVersion":"1.0.0"}', ''))), undefined);
});

test('a list without inline plugins cannot be used from the cache', () => {
  const other = Buffer.from('{"name":"n","cniVersion":"1.0.0"}').toString('base64');
  const text = recorded.replace(Buffer.from(config).toString('base64'), other);
  assert.equal(parseCacheFile('/f', text)?.list, undefined);
});

test('parseCacheName finds the parts of a file name', () => {
  const id = 'ab'.repeat(32);
  const entry = parseCacheName(`/var/lib/cni/results/my-net-${id}-eth0`);
  assert.equal(entry?.network, 'my-net');
  assert.deepEqual([entry?.attachment.containerId, entry?.attachment.ifName], [id, 'eth0']);
  assert.equal(parseCacheName('/x/other-file'), undefined);
});
