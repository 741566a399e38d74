import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { failure, openBench } from '../testing/bench.ts';
import { putImage } from '../testing/fake-registry.ts';
import { parsePolicy } from './policy-file.ts';

function parse(requirement: object) {
  return parsePolicy(Buffer.from(JSON.stringify({ default: [requirement] })), 'p.json').default[0];
}

const fulcio = { caPath: '/ca', oidcIssuer: 'https://i', subjectEmail: 'a@b' };
const pki = { caRootsPath: '/ca', subjectEmail: 'a@b' };
const rekorPublicKeyPath = '/rekor';

describe('a policy with sigstoreSigned', () => {
  for (const rule of [
    { keyPath: '/k' },
    { keyPaths: ['/k', '/l'] },
    { keyData: 'AAAA' },
    { keyDatas: ['AAAA'], rekorPublicKeyDatas: ['AAAA', 'AAAA'] },
    { keyPath: '/k', rekorPublicKeyPath },
    { fulcio, rekorPublicKeyPath },
    { fulcio: { caData: 'AAAA', oidcIssuer: 'i', subjectEmail: 'e' }, rekorPublicKeyPaths: ['/a', '/b'] },
    { pki },
    { pki: { caRootsData: 'AAAA', caIntermediatesData: 'AAAA', subjectHostname: 'h' } },
    { pki: { ...pki, subjectHostname: 'h' }, signedIdentity: { type: 'matchExact' } },
  ])
    it(`is read with ${JSON.stringify(rule)}`, () =>
      assert.equal(parse({ type: 'sigstoreSigned', ...rule })?.type, 'sigstoreSigned'));

  const bad: readonly (readonly [object, RegExp])[] = [
    [{}, /exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio, and pki must be specified/],
    [{ keyPath: '/k', keyData: 'AAAA' }, /keyPath and keyData exclude each other/],
    [{ keyPath: '/k', pki }, /exactly one of/],
    [{ fulcio, pki, rekorPublicKeyPath }, /exactly one of/],
    [{ keyPath: '' }, /"keyPath" is empty/],
    [{ keyPath: 1 }, /keyPath: expected a string/],
    [{ keyPaths: [] }, /"keyPaths" contains no entries/],
    [{ keyDatas: ['AAAA', ''] }, /"keyDatas" is empty/],
    [{ keyData: 'not base64!' }, /keyData: not base64/],
    [{ keyPath: '/k', keyID: 'x' }, /unknown key "keyID"/],
    [{ fulcio }, /at least one of rekorPublicKeyPath.* must be specified if fulcio is used/],
    [{ fulcio: null, rekorPublicKeyPath }, /exactly one of/],
    [{ fulcio: { ...fulcio, caData: 'AAAA' }, rekorPublicKeyPath }, /caPath and caData exclude each other/],
    [{ fulcio: { oidcIssuer: 'i', subjectEmail: 'e' }, rekorPublicKeyPath }, /at least one of caPath and caData/],
    [{ fulcio: { ...fulcio, oidcIssuer: '' }, rekorPublicKeyPath }, /oidcIssuer not specified/],
    [{ fulcio: { caPath: '/ca', oidcIssuer: 'i' }, rekorPublicKeyPath }, /subjectEmail not specified/],
    [{ fulcio: { ...fulcio, subject: 'x' }, rekorPublicKeyPath }, /unknown key "subject"/],
    [{ keyPath: '/k', rekorPublicKeyPath, rekorPublicKeyData: 'AAAA' }, /exclude each other/],
    [{ keyPath: '/k', rekorPublicKeyPaths: [] }, /"rekorPublicKeyPaths" contains no entries/],
    [{ pki, rekorPublicKeyPath }, /are not supported for pki/],
    [{ pki: { subjectEmail: 'e' } }, /at least one of caRootsPath and caRootsData/],
    [{ pki: { ...pki, caRootsData: 'AAAA' } }, /caRootsPath and caRootsData exclude each other/],
    [{ pki: { ...pki, caIntermediatesPath: '/i', caIntermediatesData: 'AAAA' } }, /exclude each other/],
    [{ pki: { caRootsPath: '/ca' } }, /at least one of subjectEmail, subjectHostname/],
    [{ pki: { caRootsPath: '/ca', subjectHostname: '', subjectEmail: 'e' } }, /"subjectHostname" is empty/],
    [{ keyPath: '/k', signedIdentity: { type: 'x' } }, /unknown type "x"/],
  ];
  for (const [rule, want] of bad)
    it(`is refused with ${JSON.stringify(rule)}`, () =>
      assert.throws(() => parse({ type: 'sigstoreSigned', ...rule }), want));

  it('is refused as a whole when a rule for another image is wrong', async () => {
    const wrong = [{ type: 'sigstoreSigned', fulcio }];
    const policy = { default: [{ type: 'insecureAcceptAnything' }], transports: { docker: { 'other.io': wrong } } };
    await using bench = await openBench({ policy });
    putImage(bench.registry, 'a', '1');
    assert.match(
      await failure(bench.pull(`${bench.registry.host}/a:1`)),
      /"other\.io"\[0\]: at least one of rekorPublicKey/,
    );
  });
});

describe('a policy with signedBaseLayer', () => {
  const rule = { type: 'signedBaseLayer', baseLayerIdentity: { type: 'matchRepository' } };

  it('is read, and refuses every image, as with the other container tools', async () => {
    await using bench = await openBench({ policy: { default: [rule] } });
    putImage(bench.registry, 'a', '1');
    assert.match(
      await failure(bench.pull(`${bench.registry.host}/a:1`)),
      /^SignatureValidationFailed: .*signedBaseLayer not implemented yet! .*requirement "signedBaseLayer"/,
    );
  });

  it('is refused without its identity, or with more', () => {
    assert.throws(() => parse({ type: 'signedBaseLayer' }), /baseLayerIdentity not specified/);
    assert.throws(() => parse({ ...rule, baseLayerIdentity: { type: 'x' } }), /unknown type/);
    assert.throws(() => parse({ ...rule, keyPath: '/k' }), /unknown key/);
  });
});
