import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chooseOciVersion, parseFeatures } from './features.ts';

test('chooseOciVersion gives old crun what it accepts, everybody else the newest', () => {
  const table: Readonly<Record<string, string>> = {
    'crun version 1.8.1': '1.0.2',
    'crun version 1.14': '1.0.2',
    'crun version 1.14.1': '1.0.2',
    'crun version 1.14.3': '1.3.0',
    'crun version 1.21': '1.3.0',
    'crun version 0.20.1.5-925d-dirty': '1.0.2',
    'crun version 2.0': '1.3.0',
    'runc version 1.1.5+ds1': '1.3.0',
    'kata-runtime  : 3.0': '1.3.0',
    '': '1.3.0',
  };
  for (const [line, version] of Object.entries(table)) assert.equal(chooseOciVersion(line), version, line);
});

test('parseFeatures reads what matters, behind warnings', () => {
  const document = {
    ociVersionMin: '1.0.0',
    ociVersionMax: '1.2.0',
    mountOptions: ['ro', 'rro', 1],
    linux: { mountExtensions: { idmap: { enabled: true } } },
  };
  assert.deepEqual(parseFeatures(`level=warning msg=x\n${JSON.stringify(document)}\n`), {
    mountOptions: ['ro', 'rro'],
    idmapMounts: true,
  });
  assert.deepEqual(parseFeatures(JSON.stringify({ ...document, linux: null })).idmapMounts, false);
});

test('parseFeatures finds nothing in a document without versions, or in no document', () => {
  const none = { mountOptions: [], idmapMounts: false };
  for (const text of [
    '',
    'unknown command features',
    '{}',
    '{"ociVersionMin":"","ociVersionMax":"1"}',
    '}{',
    '{"a":',
  ]) {
    assert.deepEqual(parseFeatures(text), none);
  }
  fc.assert(fc.property(fc.json(), (text) => assert.ok(Array.isArray(parseFeatures(text).mountOptions))));
});
