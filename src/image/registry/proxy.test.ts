import assert from 'node:assert/strict';
import { env } from 'node:process';
import { describe, it } from 'node:test';
import { messageOf } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { failure } from '../testing/bench.ts';
import { Endpoints } from './endpoints.ts';
import { defaultLimits } from './limits.ts';
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

  it('refuses one that cannot be used, by its variable and without its password; what needs none goes on', () => {
    const rows: readonly (readonly [proxy: string, text: RegExp])[] = [
      ['socks5://user:secret@p:1', /^HTTPS_PROXY is a proxy of the kind "socks5": only http and https are supported$/],
      ['socks5h://p:1', /the kind "socks5h"/],
      ['http://p:secret', /^HTTPS_PROXY is no URL/],
    ];
    for (const [proxy, text] of rows) {
      const env = { https_proxy: proxy, NO_PROXY: 'b.io' };
      assert.throws(
        () => proxyFor(new URL('https://a.io'), env),
        (error) => text.test(messageOf(error)) && !messageOf(error).includes('secret'),
      );
      assert.equal(proxyFor(new URL('https://b.io'), env), undefined);
      assert.equal(proxyFor(new URL('http://a.io'), env), undefined);
    }
    assert.deepEqual(proxyFor(new URL('https://a.io'), { HTTPS_PROXY: 'https://p' }), { HTTPS_PROXY: 'https://p' });
  });

  it('that is refused fails the request, which connects to nobody', async () => {
    using endpoints = new Endpoints({ limits: defaultLimits, certificateDirs: [], log: silentLog });
    const before = env['HTTPS_PROXY'];
    env['HTTPS_PROXY'] = 'socks5://127.0.0.1:1';
    // Not a loopback address: those are never asked for through a proxy.
    const sent = endpoints.get('192.0.2.1', false).send({ target: '/v2/', signal: AbortSignal.timeout(10_000) });
    const text = await failure(sent);
    if (before === undefined) delete env['HTTPS_PROXY'];
    else env['HTTPS_PROXY'] = before;
    assert.match(text, /^HTTPS_PROXY is a proxy of the kind "socks5"/);
  });
});
