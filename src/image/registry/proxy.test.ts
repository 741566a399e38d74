import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { proxyFor } from './proxy.ts';

const uses = (url: string, noProxy: string): boolean =>
  proxyFor(new URL(url), { HTTPS_PROXY: 'p:3128', HTTP_PROXY: 'p:3128', NO_PROXY: noProxy }) !== undefined;

describe('proxyFor', () => {
  const rows: readonly (readonly [url: string, noProxy: string, uses: boolean])[] = [
    ['https://quay.io/', '', true],
    ['https://quay.io/', '*', false],
    ['https://quay.io/', 'quay.io', false],
    ['https://cdn.quay.io/', 'quay.io', false],
    ['https://notquay.io/', 'quay.io', true],
    ['https://quay.io/', '.quay.io', true],
    ['https://cdn.quay.io/', '.quay.io', false],
    ['https://cdn.quay.io/', '*.quay.io', false],
    ['https://QUAY.io/', ' , Quay.IO ', false],
    ['https://quay.io/', 'quay.io:443', false],
    ['https://quay.io/', 'quay.io:80', true],
    ['http://quay.io/', 'quay.io:80', false],
    ['http://quay.io:5000/', 'quay.io:5000', false],
    ['https://10.1.2.3/', '10.0.0.0/8', false],
    ['https://11.1.2.3/', '10.0.0.0/8', true],
    ['https://10.1.2.3/', '10.0.0.0/99', true],
    ['https://10.1.2.3:5000/', '10.1.2.3', false],
    ['https://10.1.2.3:5000/', '10.1.2.3:5001', true],
    ['https://[fd00::5]/', 'fd00::/16', false],
    ['https://[fd00::5]:5000/', '[fd00::5]:5000', false],
    ['https://[fd00::5]/', 'fd00::6', true],
    ['https://x.10.1.2.3.example/', '10.1.2.3', true],
    ['https://localhost:5000/', '', false],
    ['https://127.9.9.9:5000/', '', false],
    ['https://[::1]:5000/', '', false],
  ];
  for (const [url, noProxy, want] of rows) {
    it(`${want ? 'asks' : 'does not ask'} a proxy for ${url} with NO_PROXY "${noProxy}"`, () =>
      assert.equal(uses(url, noProxy), want));
  }

  it('has one proxy per scheme, in upper or lower case, with or without a scheme', () => {
    const env = { HTTPS_PROXY: '', https_proxy: 'http://user:secret@p:1', HTTP_PROXY: 'q:2', http_proxy: 'r:3' };
    assert.deepEqual(proxyFor(new URL('https://a.io'), env), { HTTPS_PROXY: 'http://user:secret@p:1' });
    assert.deepEqual(proxyFor(new URL('http://a.io'), env), { HTTP_PROXY: 'http://q:2' });
    assert.equal(proxyFor(new URL('http://a.io'), { HTTPS_PROXY: 'p' }), undefined);
  });
});
