import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { openSslName } from '../config/tls.ts';
import type { Attachment } from '../runtime/runtime.ts';
import { copyOutput, DetachKeys } from './attach.ts';
import { decodeBase64 } from './channels.ts';
import { IdleTimer } from './idle-timer.ts';
import { negotiateSpdy, negotiateWebSocket } from './negotiation.ts';
import { statusJson, TerminalSizes } from './remote-command.ts';
import { problemOf } from './spdy-port-forward.ts';
import { maxTokens, TokenCache, tokenLifetimeMs } from './tokens.ts';
import { whenAborted } from './when-aborted.ts';

test('a token is good once, for a minute', () => {
  let nowMs = 0;
  const tokens = new TokenCache<string>(() => nowMs);
  const token = tokens.issue('a');
  assert.match(token, /^[\w-]{8}$/);
  assert.equal(tokens.take(token), 'a');
  assert.equal(tokens.take(token), undefined);
  const late = tokens.issue('b');
  nowMs += tokenLifetimeMs;
  assert.equal(tokens.take(late), undefined);
});

test('no more than 1000 tokens wait, and expired ones make room', () => {
  let nowMs = 0;
  const tokens = new TokenCache<number>(() => nowMs);
  for (let count = 0; count < maxTokens; count++) tokens.issue(count);
  assert.throws(() => tokens.issue(0), /maximum number of in-flight requests exceeded/);
  nowMs += tokenLifetimeMs;
  tokens.issue(0);
});

test('of each piece of the client’s sizes only the last counts, however they are cut (CVE-2022-23471: only it is kept)', () => {
  const size = fc.record({ Width: fc.integer({ min: 1, max: 65535 }), Height: fc.integer({ min: 1, max: 65535 }) });
  fc.assert(
    fc.property(fc.array(size, { minLength: 1 }), fc.integer({ min: 1, max: 200 }), (sent, step) => {
      const sizes = new TerminalSizes();
      const seen: unknown[] = [];
      using _following = sizes.follow((one) => seen.push(one));
      const text = Buffer.from(sent.map((one) => `${JSON.stringify(one)}\n`).join(''));
      let pieces = 0;
      for (let at = 0; at < text.length; at += step, pieces++) sizes.push(text.subarray(at, at + step));
      assert.ok(seen.length <= pieces && (step > 1 || seen.length === sent.length));
      const last = sent.at(-1);
      assert.deepEqual(seen.at(-1), { width: last?.Width, height: last?.Height });
    }),
  );
});

test('sizes by the thousand at once are none', async () => {
  const sizes = new TerminalSizes();
  sizes.push(Buffer.from('{"Width":80,"Height":24}'.repeat(2000)));
  assert.deepEqual(await sizes.first(1), { width: 80, height: 24 });
  const many = new TerminalSizes();
  many.push(Buffer.from('{"Width":80,"Height":24}'.repeat(3000)));
  assert.equal(await many.first(1), undefined);
});

test('what is no size ends resizing and nothing else', async () => {
  for (const text of ['{]}', '{"Width":70000,"Height":1}', '{"Width":"a"}', `{${' '.repeat(5000)}`, '[1]}']) {
    const sizes = new TerminalSizes();
    sizes.push(Buffer.from(text));
    sizes.push(Buffer.from('{"Width":80,"Height":24}'));
    assert.equal(await sizes.first(1), undefined, text);
  }
  const zero = new TerminalSizes();
  zero.push(Buffer.from('{"width":0,"height":24}{"width":80,"height":24}'));
  assert.deepEqual(await zero.first(1), { width: 80, height: 24 });
});

test('the status is the JSON that clients decode', () => {
  assert.equal(statusJson({ kind: 'exit', code: 0 }), '{"status":"Success"}');
  assert.equal(
    statusJson({ kind: 'exit', code: 7 }),
    '{"status":"Failure","message":"command terminated with non-zero exit code: exit status 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}',
  );
  assert.equal(
    statusJson({ kind: 'failure', message: 'no' }),
    '{"status":"Failure","message":"Internal error occurred: no","reason":"InternalError","code":500}',
  );
});

test('SPDY upgrades are negotiated in the client’s order and refused with the known texts', () => {
  const server = ['v4.channel.k8s.io', 'channel.k8s.io'];
  const ask = (headers: Record<string, string>) =>
    negotiateSpdy({ headers, headerCount: Object.keys(headers).length }, server);
  const upgrade = { connection: 'Upgrade', upgrade: 'SPDY/3.1' };
  assert.deepEqual(ask({ ...upgrade, 'x-stream-protocol-version': 'v9, channel.k8s.io,v4.channel.k8s.io' }), {
    protocol: 'channel.k8s.io',
  });
  const refusal = (headers: Record<string, string>) => {
    const answer = ask(headers);
    return 'refusal' in answer ? `${answer.refusal.status} ${answer.refusal.body}` : answer.protocol;
  };
  assert.match(refusal(upgrade), /^400 .*does not exist in request with 2 headers\n$/);
  assert.match(refusal({ ...upgrade, 'x-stream-protocol-version': ' ' }), /^400 .*but no valid protocols\n$/);
  assert.match(
    refusal({ ...upgrade, 'x-stream-protocol-version': 'a' }),
    /^403 .*client supports \[a\], server accepts/,
  );
  assert.match(refusal({ 'x-stream-protocol-version': server.join() }), /^400 .*missing upgrade headers/);
});

test('WebSockets need GET, a key, version 13 and a known sub-protocol or none', () => {
  const good = { 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==', 'sec-websocket-version': '13' };
  const ask = (method: string, headers: Record<string, string>) => {
    const answer = negotiateWebSocket({ method, headers }, ['v5.channel.k8s.io']);
    return 'refusal' in answer ? answer.refusal.status : answer.protocol;
  };
  assert.equal(ask('GET', good), '');
  assert.equal(ask('GET', { ...good, 'sec-websocket-protocol': 'x, v5.channel.k8s.io' }), 'v5.channel.k8s.io');
  assert.equal(ask('GET', { ...good, 'sec-websocket-protocol': 'x' }), 403);
  assert.equal(ask('POST', good), 405);
  assert.equal(ask('GET', { ...good, 'sec-websocket-key': 'short' }), 400);
  assert.equal(ask('GET', { ...good, 'sec-websocket-version': '8' }), 400);
});

test('the detach keys count only alone, one after the other, on a terminal', () => {
  const keys = new DetachKeys(true);
  const type = (...bytes: readonly number[]) => {
    const passed = keys.filter(Buffer.from(bytes));
    return passed === 'detach' ? passed : [...passed];
  };
  assert.deepEqual(type(0x10), []);
  assert.deepEqual(type(0x61), [0x10, 0x61]);
  assert.deepEqual(type(0x10, 0x11), [0x10, 0x11]);
  assert.deepEqual(type(0x10), []);
  assert.deepEqual(type(0x10), [0x10]);
  assert.equal(type(0x11), 'detach');
  assert.deepEqual([...Buffer.from(new DetachKeys(false).filter(Buffer.of(0x10)))], [0x10]);
});

test('a port-forward stream says its port and its type', () => {
  const ask = (headers: Record<string, string>) => problemOf(new Map(Object.entries(headers)));
  assert.equal(ask({ port: '80', streamtype: 'data' }), undefined);
  assert.equal(ask({ streamtype: 'data' }), '"port" header is required');
  assert.match(ask({ port: '65536', streamtype: 'data' }) ?? '', /^unable to parse "65536" as a port/);
  assert.equal(ask({ port: '0', streamtype: 'data' }), 'port "0" must be > 0');
  assert.equal(ask({ port: '1' }), '"streamType" header is required');
  assert.equal(ask({ port: '1', streamtype: 'x' }), 'invalid stream type "x"');
});

test('who asks late for an abort that has been hears of it at once', async () => {
  await whenAborted(AbortSignal.abort());
  const end = new AbortController();
  const heard = whenAborted(end.signal);
  end.abort();
  await heard;
});

test('base64 of any length is decoded, and nothing else', () => {
  for (const length of [0, 1, 2, 3, 49_151, 49_152, 49_153, 200_000]) {
    const data = randomBytes(length);
    assert.deepEqual(decodeBase64(Buffer.from(data.toString('base64'))), data);
  }
  for (const text of ['A', 'AA', 'AAA#', 'A===', '=AAA', `${'A'.repeat(65_534)}==AAAA`]) {
    assert.equal(decodeBase64(Buffer.from(text)), undefined, text.slice(-8));
  }
});

test('an idle timeout longer than a timer can be does not spin', async () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => warnings.push(warning);
  process.on('warning', onWarning);
  const idle = new IdleTimer(30 * 24 * 60 * 60 * 1000, () => assert.fail('idle already'));
  await sleep(20);
  idle.stop();
  process.off('warning', onWarning);
  assert.deepEqual(warnings, []);
});

test('a client of attach may be behind by some thousand packets, however small they are', async () => {
  let packets = 0;
  const attachment: Attachment = {
    receive: () => Promise.resolve(++packets < 1_000_000 ? { stream: 'stdout', data: Buffer.of(0x78) } : undefined),
    send: () => Promise.resolve(true),
    endInput() {},
    resize() {},
    [Symbol.dispose]() {},
  };
  const stuck = { write: () => new Promise<never>(() => {}) };
  await assert.rejects(copyOutput(attachment, 'c', { stdout: stuck, stderr: undefined }), /container c prints faster/);
  assert.ok(packets > 1000 && packets < 5000, String(packets));
});

test('cipher suites of Go have names in OpenSSL', () => {
  const names = {
    TLS_AES_128_GCM_SHA256: 'TLS_AES_128_GCM_SHA256',
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: 'ECDHE-RSA-AES128-GCM-SHA256',
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: 'ECDHE-ECDSA-CHACHA20-POLY1305',
    TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA: 'ECDHE-RSA-AES256-SHA',
    TLS_RSA_WITH_AES_128_CBC_SHA256: 'AES128-SHA256',
    TLS_RSA_WITH_3DES_EDE_CBC_SHA: 'DES-CBC3-SHA',
  };
  for (const [go, openSsl] of Object.entries(names)) assert.equal(openSslName(go), openSsl);
});
