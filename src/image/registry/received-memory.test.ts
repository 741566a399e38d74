import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { Agent, createServer, get } from 'node:http';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { getHeapStatistics } from 'node:v8';
import { giveBack, giveBackReceived } from './received-memory.ts';

const mebibyte = 2 ** 20;
const answers = [48 * mebibyte, 1, 300_000, 0, 65_536].map((size) => randomBytes(size));

test('what a socket brings is given back at once, and bodies are what was sent, one after the other on a connection', async () => {
  await using server = createServer((request, response) => response.end(answers[Number(request.url?.slice(1))]));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo; // of a TCP server that listens
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const before = getHeapStatistics().external_memory;
  let most = 0;
  const bodies = answers.map(async (answer, index) => {
    const response = await new Promise<IncomingMessage>((resolve) =>
      get({ host: '127.0.0.1', port, path: `/${index}`, agent }, (found) => {
        giveBackReceived(found);
        resolve(found);
      }),
    );
    const hash = createHash('sha256');
    for await (const piece of response as AsyncIterable<Buffer>) {
      hash.update(piece);
      giveBack(piece);
      most = Math.max(most, getHeapStatistics().external_memory);
    }
    assert.equal(hash.digest('hex'), createHash('sha256').update(answer).digest('hex'), `answer ${index}`);
  });
  await Promise.all(bodies);
  agent.destroy();
  assert.ok(most - before < 8 * mebibyte, `${(most - before) / mebibyte} MiB`);
});
