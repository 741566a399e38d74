import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatArgs, pluginInput } from './chain.ts';
import { parsePlugin } from './network-list.ts';
import { pluginErrorText, pluginVariables } from './plugin.ts';
import { parseVersions } from './plugin-versions.ts';

const list = { name: 'crio', cniVersion: '1.0.0' };

test('pluginInput has sorted keys, the name and version of the list and only declared capabilities', () => {
  const plugin = parsePlugin({
    type: 'portmap',
    name: 'own',
    snat: true,
    capabilities: { portMappings: true, bandwidth: false },
  });
  const capabilities = { portMappings: [{ hostPort: 1 }], bandwidth: { ingressRate: 1 }, cgroupPath: '/a' };
  assert.equal(
    pluginInput(plugin, list, { capabilities, prevResult: { cniVersion: '1.0.0' } }),
    '{"capabilities":{"bandwidth":false,"portMappings":true},"cniVersion":"1.0.0","name":"crio","prevResult":{"cniVersion":"1.0.0"},' +
      '"runtimeConfig":{"portMappings":[{"hostPort":1}]},"snat":true,"type":"portmap"}',
  );
});

test('pluginInput leaves out what there is not, and keeps an empty version', () => {
  const plugin = parsePlugin({ type: 'a', cniVersion: '0.3.0' });
  assert.equal(pluginInput(plugin, { name: 'n', cniVersion: '' }, {}), '{"cniVersion":"","name":"n","type":"a"}');
});

test('formatArgs joins pairs in order', () => {
  assert.equal(
    formatArgs([
      ['IgnoreUnknown', '1'],
      ['K8S_POD_NAME', 'p'],
    ]),
    'IgnoreUnknown=1;K8S_POD_NAME=p',
  );
});

test('pluginVariables replaces what is inherited', () => {
  const environment = {
    command: 'ADD',
    containerId: 'c',
    netns: '/n',
    ifName: 'eth0',
    args: '',
    path: '/a:/b',
  } as const;
  const variables = pluginVariables(environment, { PATH: '/bin', CNI_ARGS: 'old', GONE: undefined });
  assert.deepEqual(variables, {
    PATH: '/bin',
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'c',
    CNI_NETNS: '/n',
    CNI_IFNAME: 'eth0',
    CNI_ARGS: '',
    CNI_PATH: '/a:/b',
  });
});

test('pluginErrorText has the texts of the CNI library', () => {
  assert.equal(pluginErrorText('{"code":7,"msg":"bad","details":"more"}', 'x', ''), 'bad; more');
  assert.equal(pluginErrorText('{"code":7,"msg":"bad"}', '', ''), 'bad');
  assert.equal(pluginErrorText('', 'oops', ''), 'netplugin failed: "oops"');
  assert.equal(pluginErrorText('', '', 'exit status 1'), 'netplugin failed with no error message: exit status 1');
  assert.match(pluginErrorText('boom', '', ''), /^netplugin failed but error parsing its diagnostic message "boom": /);
});

test('parseVersions allows a missing list for version 0.2.0 only', () => {
  assert.deepEqual(parseVersions('{"cniVersion":"1.0.0","supportedVersions":["0.4.0"]}'), ['0.4.0']);
  assert.deepEqual(parseVersions('{"cniVersion":"0.2.0"}'), ['0.1.0', '0.2.0']);
  assert.throws(() => parseVersions('{"cniVersion":"1.0.0"}'), /supportedVersions/);
  assert.throws(() => parseVersions('?'));
});
