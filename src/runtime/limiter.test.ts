import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Limiter } from './limiter.ts';

const never = new AbortController().signal;

test('a limiter runs no more than its limit, in order of arrival', async () => {
  const limiter = new Limiter(2);
  let running = 0;
  let most = 0;
  const order: number[] = [];
  await Promise.all(
    Array.from({ length: 6 }, (_, index) =>
      limiter.run(never, async () => {
        order.push(index);
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 2));
        running--;
      }),
    ),
  );
  assert.equal(most, 2);
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5]);
});

test('a failure frees the place, and one that gives up waiting is not run', async () => {
  const limiter = new Limiter(1);
  const { promise, resolve } = Promise.withResolvers<void>();
  const first = limiter.run(never, () => promise.then(() => Promise.reject(new Error('broken'))));
  const abort = new AbortController();
  const second = limiter.run(abort.signal, () => Promise.reject(new Error('must not run')));
  const third = limiter.run(never, async () => 'third');
  abort.abort(new Error('gone'));
  await assert.rejects(second, /gone/);
  resolve();
  await assert.rejects(first, /broken/);
  assert.equal(await third, 'third');
  await assert.rejects(
    limiter.run(AbortSignal.abort(new Error('late')), async () => 1),
    /late/,
  );
});

test('what hangs gives its place to the next, and does not give it twice', async () => {
  const limiter = new Limiter(1, 5);
  const { promise, resolve } = Promise.withResolvers<string>();
  const hanging = limiter.run(never, () => promise);
  assert.equal(await limiter.run(never, async () => 'second'), 'second');
  resolve('first');
  assert.equal(await hanging, 'first');
  let running = 0;
  const work = async () => {
    assert.equal(++running, 1);
    await Promise.resolve();
    running--;
  };
  await Promise.all([limiter.run(never, work), limiter.run(never, work), limiter.run(never, work)]);
});
