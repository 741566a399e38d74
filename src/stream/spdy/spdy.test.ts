import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { constants, deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { CrioError } from '../../base/errors.ts';
import { HeaderEncoder, serializeHeaders, SpdyClient } from '../testing/spdy-client.ts';
import { SpdyConnection } from './connection.ts';
import { dictionary } from './dictionary.ts';
import {
  dataHead,
  FrameParser,
  goAwayFrame,
  pingFrame,
  rstStreamFrame,
  synReplyFrame,
  synStreamFrame,
  type Frame,
} from './frames.ts';
import { EmptyHeaders, HeaderDecoder, zlibHead } from './header-block.ts';
import type { SpdyStream } from './stream.ts';

test('the dictionary is the one of the protocol', () => {
  assert.equal(dictionary.length, 1423);
  assert.equal(
    createHash('sha256').update(dictionary).digest('hex'),
    '51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02',
  );
});

test('frames of the official client are read', () => {
  const decoder = new HeaderDecoder();
  const bytes =
    '80030001000000280000000100000000000078f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000ffff' +
    '800300010000001900000003000000000000c22a054ccc29f9a52500000000ffff';
  const frames = [...new FrameParser().push(Buffer.from(bytes, 'hex'))];
  const headers = frames.map((frame) => (frame.type === 'synStream' ? [...decoder.decode(frame.block)] : frame.type));
  assert.deepEqual(headers, [[['streamtype', 'error']], [['streamtype', 'stdout']]]);
});

test('empty header blocks are read by a decompressor of the whole direction', () => {
  const replies = new EmptyHeaders();
  const decoder = new HeaderDecoder();
  for (let round = 0; round < 3; round++) assert.equal(decoder.decode(replies.next()).size, 0);
});

const headerText = fc.stringMatching(/^[a-z0-9-]{1,12}$/);
const headers = fc.dictionary(headerText, fc.string({ maxLength: 20, unit: 'binary-ascii' }), { maxKeys: 5 });

test('header blocks survive the way through one zlib stream in order', () => {
  fc.assert(
    fc.property(fc.array(headers, { maxLength: 8 }), (blocks) => {
      const encoder = new HeaderEncoder();
      const decoder = new HeaderDecoder();
      for (const block of blocks) {
        assert.deepEqual(Object.fromEntries(decoder.decode(encoder.encode(block))), { ...block });
      }
    }),
  );
});

test('a header bomb is refused after 8 KiB (CVE-2022-23471, CVE-2025-64329: bounded work per client)', () => {
  const bomb = deflateRawSync(Buffer.alloc(64 << 20), { dictionary, finishFlush: constants.Z_SYNC_FLUSH });
  assert.ok(bomb.length < 70_000);
  assert.throws(() => new HeaderDecoder().decode(Buffer.concat([zlibHead, bomb])), /cannot be decompressed/);
  const large = serializeHeaders([['a', 'x'.repeat(9000)]]);
  assert.throws(() => new HeaderDecoder().decode(new HeaderEncoder().encodeBlock(large)), /cannot be decompressed/);
  const many = serializeHeaders(Array.from({ length: 101 }, (_, index) => [`h${index}`, '']));
  assert.throws(() => new HeaderDecoder().decode(new HeaderEncoder().encodeBlock(many)), /101 headers/);
});

test('any bytes are headers or an error, never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, withHead) => {
      const block = withHead ? Buffer.concat([zlibHead, bytes]) : Buffer.from(bytes);
      try {
        assert.ok(new HeaderDecoder().decode(block).size <= 100);
      } catch (error) {
        assert.ok(error instanceof CrioError, String(error));
      }
    }),
  );
});

const id = fc.integer({ min: 1, max: 0x7fffffff });
const anyFrame = fc.oneof(
  fc.tuple(id, fc.uint8Array({ maxLength: 40 }), fc.boolean()).map(([stream, block, isLast]) => ({
    bytes: synStreamFrame(stream, Buffer.from(block), isLast),
    text: `synStream ${stream} ${isLast} ${Buffer.from(block).toString('hex')}`,
  })),
  fc.tuple(id, fc.uint8Array({ maxLength: 40 })).map(([stream, block]) => ({
    bytes: synReplyFrame(stream, Buffer.from(block)),
    text: `synReply ${stream} false ${Buffer.from(block).toString('hex')}`,
  })),
  fc.tuple(id, id).map(([stream, status]) => ({
    bytes: rstStreamFrame(stream, status),
    text: `rstStream ${stream} ${status}`,
  })),
  id.map((ping) => ({ bytes: pingFrame(ping), text: `ping ${ping}` })),
  id.map((last) => ({ bytes: goAwayFrame(last), text: 'goAway' })),
  fc.tuple(id, fc.uint8Array({ maxLength: 100 }), fc.boolean()).map(([stream, data, isLast]) => ({
    bytes: Buffer.concat([dataHead(stream, data.length, isLast), data]),
    text: `data ${stream} ${isLast} ${Buffer.from(data).toString('hex')}`,
  })),
);

test('frames are the same whatever pieces they come in', () => {
  fc.assert(
    fc.property(fc.array(anyFrame, { maxLength: 10 }), fc.array(fc.integer({ min: 1, max: 30 })), (frames, sizes) => {
      const ids = frames.map(({ text }) => text.split(' ').slice(0, 2).join());
      fc.pre(new Set(ids).size === ids.length);
      const parser = new FrameParser();
      const all = Buffer.concat(frames.map(({ bytes }) => bytes));
      const seen: Frame[] = [];
      for (let at = 0, round = 0; at < all.length; round++) {
        const size = sizes[round % Math.max(1, sizes.length)] ?? 7;
        for (const frame of parser.push(all.subarray(at, at + size))) {
          seen.push('data' in frame ? { ...frame, data: Buffer.from(frame.data) } : frame);
        }
        at += size;
      }
      assert.deepEqual(
        describeFrames(seen),
        frames.map(({ text }) => text),
      );
    }),
  );
});

/** Parts of a data frame are joined again. */
function describeFrames(frames: readonly Frame[]): string[] {
  const texts: string[] = [];
  let data: Buffer | undefined;
  for (const [index, frame] of frames.entries()) {
    if (frame.type !== 'data') {
      texts.push(describeFrame(frame));
      continue;
    }
    data = Buffer.concat([data ?? Buffer.alloc(0), frame.data]);
    const next = frames[index + 1];
    // The parser ends a frame with its last part; parts of one frame follow each other.
    if (frame.isLast || next?.type !== 'data' || next.id !== frame.id) {
      texts.push(`data ${frame.id} ${frame.isLast} ${data.toString('hex')}`);
      data = undefined;
    }
  }
  return texts;
}

function describeFrame(frame: Frame): string {
  if (frame.type === 'rstStream') return `rstStream ${frame.id} ${frame.status}`;
  if (frame.type === 'ping') return `ping ${frame.id}`;
  if ('block' in frame) return `${frame.type} ${frame.id} ${frame.isLast} ${frame.block.toString('hex')}`;
  return frame.type;
}

test('any bytes are frames or an error, and no more than a control frame is kept', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 20 }), (pieces) => {
      const parser = new FrameParser();
      try {
        for (const piece of pieces) for (const frame of parser.push(Buffer.from(piece))) assert.ok(frame.type);
      } catch (error) {
        assert.ok(error instanceof CrioError, String(error));
      }
    }),
  );
  assert.throws(
    () => [...new FrameParser().push(Buffer.from('8003000100ffffff', 'hex'))],
    /control frame of 65535 bytes|control frame/,
  );
});

interface Session {
  readonly client: SpdyClient;
  readonly connection: SpdyConnection;
  readonly streams: SpdyStream[];
}

function connect(idleTimeoutMs = 60_000): Session {
  const [near, far] = duplexPair();
  const streams: SpdyStream[] = [];
  const connection = new SpdyConnection({
    transport: far,
    traffic: () => 0,
    idleTimeoutMs,
    accept: (names) => names.get('streamtype') !== 'bad',
    onStream: (stream) => streams.push(stream),
  });
  return { client: new SpdyClient(near), connection, streams };
}

test('a stream is answered, carries data both ways, and each direction ends on its own', async () => {
  const { client, connection, streams } = connect();
  const mine = client.open({ streamtype: 'data' });
  await mine.replied;
  const [theirs] = streams;
  mine.send('question');
  mine.end();
  assert.equal(String(await theirs?.read()), 'question');
  assert.equal(await theirs?.read(), undefined);
  assert.equal(await theirs?.write(Buffer.from('answer')), true);
  theirs?.end();
  assert.equal(await mine.text, 'answer');
  connection.end();
  await client.closed;
  assert.equal(client.frames.at(-1)?.type, 'goAway');
});

test('refused streams are reset and the following ones still understood', async () => {
  const { client, streams } = connect();
  const bad = client.open({ streamtype: 'bad', port: '1' });
  await bad.text;
  await client.open({ streamtype: 'good' }).replied;
  assert.deepEqual(
    streams.map(({ headers: names }) => names.get('streamtype')),
    ['good'],
  );
  const used = client.open({ streamtype: 'again' }, 1);
  await used.text;
  assert.deepEqual(client.frames.at(-1), { type: 'rstStream', id: 1, status: 1 });
});

test('pings of the client are answered, others are not', async () => {
  const { client } = connect();
  client.ping(2);
  client.ping(7);
  await sleep(5);
  assert.deepEqual(client.frames, [{ type: 'ping', id: 7 }]);
});

test('nothing is sent before the client has spoken', async () => {
  const { client } = connect();
  await sleep(5);
  assert.deepEqual(client.frames, []);
});

test('a goodbye or the end of the transport ends all streams', async () => {
  for (const leave of [(client: SpdyClient) => client.goAway(), (client: SpdyClient) => void client.transport.end()]) {
    const { client, connection, streams } = connect();
    await client.open({ streamtype: 'data' }).replied;
    leave(client);
    assert.equal(await streams[0]?.read(), undefined);
    await streams[0]?.gone;
    assert.equal(await streams[0]?.write(Buffer.from('x')), false);
    assert.ok(connection.closed.aborted);
  }
});

test('idle means without payload: pings do not count', async () => {
  const { client, connection } = connect(80);
  await client.open({ streamtype: 'data' }).replied;
  const timer = setInterval(() => client.ping(1), 10);
  await client.closed;
  clearInterval(timer);
  assert.match(String(connection.closed.reason), /idle for too long/);
  assert.deepEqual(
    client.frames.filter(({ type }) => type === 'rstStream' || type === 'goAway').map(({ type }) => type),
    ['rstStream', 'goAway'],
  );
});

test('what nobody reads is bounded, also in tiny pieces, and goes on when it is read', async () => {
  for (const size of [1, 65536]) {
    const { client, connection, streams } = connect();
    const mine = client.open({ streamtype: 'data' });
    await mine.replied;
    const total = size === 1 ? 20_000 : 4 << 20;
    for (let sent = 0; sent < total; sent += size) mine.send(Buffer.alloc(size));
    mine.end();
    await sleep(20);
    assert.ok(client.transport.writableLength > 0, 'the transport is not read any more');
    let received = 0;
    for (let chunk = await streams[0]?.read(); chunk !== undefined; chunk = await streams[0]?.read()) {
      received += chunk.length;
    }
    assert.equal(received, total);
    connection.end();
  }
});

test('a client that never reads stops the writer', async () => {
  const { client, connection, streams } = connect();
  await client.open({ streamtype: 'data' }).replied;
  client.transport.pause();
  let written = 0;
  const writing = (async () => {
    while ((await streams[0]?.write(Buffer.alloc(65536))) === true) written++;
  })();
  await sleep(20);
  assert.ok(written < 10, String(written));
  client.transport.destroy();
  connection.end();
  await writing;
});

test('headers outside a new stream end the connection, and so do a thousand refused streams', async () => {
  const reply = connect();
  reply.client.transport.write(synReplyFrame(1, new EmptyHeaders().next()));
  await reply.client.closed;
  const { client, connection } = connect();
  for (let count = 0; count <= 1000; count++) client.open({ streamtype: 'bad' });
  await client.closed;
  assert.match(String(connection.closed.reason), /too many refused streams/);
});

test('streams without end are refused at some number', async () => {
  const { client, connection, streams } = connect();
  for (let count = 0; count < 3000; count++) client.open({ streamtype: 'data' });
  await sleep(200);
  assert.equal(streams.length, 2048);
  connection.end();
});
