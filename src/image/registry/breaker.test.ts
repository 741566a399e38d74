import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { silentLog } from '../../base/log.ts';
import { failure } from '../testing/bench.ts';
import { startFakeRegistry } from '../testing/fake-registry.ts';
import type { FakeRegistry } from '../testing/fake-registry.ts';
import { Breaker } from './breaker.ts';
import { TlsContexts } from './certificates.ts';
import { Endpoint } from './endpoint.ts';
import { defaultLimits } from './limits.ts';
import { createLookup } from './lookup.ts';

const { signal } = new AbortController();

/** Nobody listens there: port 1 is nobody's ephemeral port. */
const dead = '127.0.0.1:1';

/** An insecure endpoint with a clock of its own, in ms. */
function openEndpoint(host: string): { readonly endpoint: Endpoint; readonly clock: { nowMs: number } } {
  const clock = { nowMs: 0 };
  const parts = { tls: new TlsContexts([]), lookup: createLookup(), limits: defaultLimits, log: silentLog };
  const endpoint = new Endpoint({ host, insecure: true, ...parts, clock: { monotonicMs: () => clock.nowMs } });
  return { endpoint, clock };
}

const pauseOf = (problem: string | undefined) => Number(/not tried again for (\d+) s/.exec(problem ?? '')?.[1]);

/** The pauses, in seconds, after failures that each come when the pause before is over. */
async function pausesOf({ endpoint, clock }: ReturnType<typeof openEndpoint>, fail: () => Promise<unknown>) {
  const pauses: number[] = [];
  while (pauses.length < 7) {
    await failure(fail());
    pauses.push(pauseOf(endpoint.problem));
    clock.nowMs += 300_000;
    assert.equal(endpoint.problem, undefined);
  }
  return pauses;
}

const doubling = [10, 20, 40, 80, 160, 300, 300];

describe('the pause in which an endpoint is passed over', () => {
  it('doubles for a dead host, which the question for TLS does not count for', async () => {
    const opened = openEndpoint(dead);
    const { endpoint } = opened;
    assert.deepEqual(await pausesOf(opened, () => endpoint.send({ target: '/v2/a/manifests/1', signal })), doubling);
    endpoint.close();
  });

  for (const [what, ask] of [
    ['storage', (endpoint: Endpoint) => endpoint.send({ target: '/v2/a/blobs/x', signal })],
    ['token server', (endpoint: Endpoint) => endpoint.send({ target: new URL(`http://${dead}`), signal })],
  ] as const) {
    it(`doubles for a registry whose ${what} is dead, though it answers itself`, async () => {
      await using registry = await startFakeRegistry();
      registry.handle = (request, response) => redirect(request.url, response, `http://${dead}/x`);
      const opened = openEndpoint(registry.host);
      const { endpoint } = opened;
      const pauses = await pausesOf(opened, async () => {
        (await endpoint.send({ target: '/v2/', signal })).discard();
        await ask(endpoint);
      });
      assert.deepEqual(pauses, doubling);
      endpoint.close();
    });
  }

  it('is the first one again after a success, of the storage for the storage', async () => {
    await using storage = await startFakeRegistry();
    await using registry = await startFakeRegistry();
    const { endpoint, clock } = openEndpoint(registry.host);
    const askStorage = async (host: string) => {
      registry.handle = (request, response) => redirect(request.url, response, `http://${host}/v2/`);
      return endpoint.send({ target: '/v2/a/blobs/x', signal });
    };
    await failure(askStorage(dead));
    clock.nowMs += 10_000;
    await failure(askStorage(dead));
    assert.equal(pauseOf(endpoint.problem), 20);
    (await askStorage(storage.host)).discard();
    assert.equal(endpoint.problem, undefined);
    await failure(askStorage(dead));
    assert.equal(pauseOf(endpoint.problem), 10);
    endpoint.close();
  });

  it('does not grow by failures of requests that ran side by side', () => {
    let nowMs = 0;
    const breaker = new Breaker({ monotonicMs: () => nowMs });
    for (let layer = 0; layer < 4; layer += 1) breaker.failed('no answer');
    assert.equal(breaker.problem, 'not tried again for 10 s after: no answer');
    nowMs = 10_000;
    const cause = new Error('refused');
    breaker.failed('no answer', cause);
    assert.equal(breaker.problem, 'not tried again for 20 s after: no answer');
    assert.equal(breaker.cause, cause);
  });
});

function redirect(url: string | undefined, response: Parameters<FakeRegistry['handle']>[1], location: string): boolean {
  if (url?.includes('/blobs/') !== true) return false;
  response.writeHead(307, { Location: location }).end();
  return true;
}
