import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { describe, it } from 'node:test';
import { silentLog } from '../../base/log.ts';
import { Endpoints } from './endpoints.ts';
import { readAll } from './http.ts';
import { defaultLimits } from './limits.ts';

const open = () => new Endpoints({ limits: defaultLimits, certificateDirs: [], log: silentLog });

describe('an endpoint', () => {
  it('is what has its host and port, however they are written, and the scheme it may have', () => {
    using endpoints = open();
    const rows: readonly (readonly [host: string, insecure: boolean, own: string, other: string])[] = [
      ['Reg.IO:443', false, 'https://reg.io/', 'http://reg.io/'],
      ['reg.io', false, 'https://REG.io:443/x', 'https://reg.io:444/'],
      ['reg.io:80', true, 'http://reg.io/', 'https://reg.io/'],
      ['reg.io:80', true, 'https://reg.io:80/', 'http://reg.io:443/'],
      ['[::1]:5000', false, 'https://[0:0::1]:5000/', 'https://[::2]:5000/'],
      ['reg.io', false, 'https://reg.io/', 'https://reg.io.evil.io/'],
    ];
    for (const [host, insecure, own, other] of rows) {
      const endpoint = endpoints.get(host, insecure);
      assert.deepEqual([endpoint.isOwn(new URL(own)), endpoint.isOwn(new URL(other))], [true, false], host);
    }
    assert.equal(endpoints.get('reg.io:99999', false).isOwn(new URL('https://reg.io/')), false);
  });
});

describe('endpoints', () => {
  it('are forgotten when many others were asked for since', () => {
    using endpoints = open();
    const [often, once] = [endpoints.get('often.io', false), endpoints.get('once.io', false)];
    for (let at = 0; at < 1000; at += 1) {
      endpoints.get(`host-${at}.io`, false);
      endpoints.get('often.io', false);
    }
    assert.equal(endpoints.get('often.io', false), often);
    assert.notEqual(endpoints.get('once.io', false), once);
  });

  it('close what is idle when they are forgotten, and what is busy when it is done', { timeout: 10_000 }, async () => {
    await using stack = new AsyncDisposableStack();
    const endpoints = stack.use(open());
    const server = createServer((_, response) => response.writeHead(200, { 'Content-Length': 4 }).write('ab'));
    server.keepAliveTimeout = 60_000;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    stack.defer(() => void server.close());
    stack.defer(() => server.closeAllConnections());
    const { port } = server.address() as AddressInfo; // a TCP server has no other kind
    const endpoint = endpoints.get(`127.0.0.1:${port}`, true);
    const connected = once(server, 'connection');
    const answers = once(server, 'request');
    const response = await endpoint.send({
      target: new URL(`http://127.0.0.1:${port}/`),
      signal: AbortSignal.timeout(5000),
    });
    endpoints.forget();
    const [socket] = (await connected) as [Socket];
    const [, serverResponse] = (await answers) as [unknown, { end(text: string): void }];
    const closed = once(socket, 'close');
    serverResponse.end('cd');
    assert.equal((await readAll(response, 10, 'body')).toString(), 'abcd', 'the answer comes to its end');
    await closed;
  });
});
