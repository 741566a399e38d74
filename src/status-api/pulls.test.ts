import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { silentLog } from '../base/log.ts';
import { PullTracker } from '../image/pull-progress.ts';
import type { StatusDeps } from './handle-status-request.ts';
import { statusListener } from './listener.ts';
import { pullEvents } from './pulls.ts';

const often = { intervalMs: 1, keepAliveMs: 5 };

test('pullEvents tells pulls of one name apart that began at once', async () => {
  const [first, second] = [new PullTracker('a.io/x:1'), new PullTracker('a.io/x:1')];
  let running = [first, second];
  const list = () => running.map((tracker) => ({ ...tracker.snapshot, startedMs: 5 }));
  const events = pullEvents({ list }, AbortSignal.timeout(10_000), often);
  const next = async (): Promise<string> => {
    const { value } = await events.next();
    return value === undefined || value.startsWith(':') ? next() : value;
  };
  const idOf = (text: string) => /"id":(\d+)/.exec(text)?.[1];
  const ids = [idOf(await next()), idOf(await next())];
  assert.notEqual(ids[0], ids[1]);
  running = [second];
  const end = await next();
  assert.match(end, /^event: end/);
  assert.equal(idOf(end), ids[0]);
  second.setPhase('layers');
  const progress = await next();
  assert.match(progress, /^event: progress.*"phase":"layers"/s);
  assert.equal(idOf(progress), ids[1]);
  await events.return(undefined);
});

test('pullEvents sends a comment when there is no news', async () => {
  const events = pullEvents({ list: () => [] }, AbortSignal.timeout(10_000), often);
  const texts = [];
  while (texts.length < 3) texts.push((await events.next()).value);
  assert.deepEqual(texts, [': pulls\n\n', ': \n\n', ': \n\n']);
  await events.return(undefined);
});

test(
  'a client of the events that does not read them does not make the daemon hold them',
  { timeout: 30_000 },
  async () => {
    await using stack = new AsyncDisposableStack();
    const MiB = 1024 * 1024;
    const pulls = Array.from({ length: 64 }, (_, index) => new PullTracker(`${index}${'x'.repeat(MiB)}`).snapshot);
    let listed = false;
    const list = () => {
      listed = true;
      return pulls;
    };
    let response: ServerResponse | undefined;
    // Other paths are not asked for.
    const listener = statusListener({ pulls: { list } } as unknown as StatusDeps, silentLog);
    const server = createServer((request, answer) => {
      response = answer;
      listener(request, answer);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    stack.defer(() => void server.close());
    stack.defer(() => server.closeAllConnections());
    const { port } = server.address() as AddressInfo; // a TCP server has no other kind
    const client = connect(port, '127.0.0.1');
    stack.defer(() => void client.destroy());
    client.pause();
    client.write('GET /pulls/events HTTP/1.1\r\nHost: crio\r\n\r\n');
    while (!listed) await turn();
    for (let turns = 0; turns < 1000; turns += 1) await turn();
    assert.ok((response?.writableLength ?? Infinity) < 8 * MiB, `${response?.writableLength} bytes wait`);
  },
);
