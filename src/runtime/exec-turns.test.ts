import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { inContainer, turnToStart } from './exec-turns.ts';

const never = new AbortController().signal;

test('a container that starts many commands leaves a place to others', async () => {
  const held: Disposable[] = [];
  const flood = Array.from({ length: 1000 }, async () => held.push(await turnToStart(never, 'flood')));
  using _place = await turnToStart(never, 'other');
  await sleep(50);
  assert.equal(held.length, inContainer);
  while (held.length < flood.length) {
    for (const place of held) place[Symbol.dispose]();
    await sleep(1);
  }
  await Promise.all(flood);
  for (const place of held) place[Symbol.dispose]();
});

test('no two commands are started in the same turn of the event loop', async () => {
  let [turn, isOver] = [0, false];
  const count = () => {
    turn++;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  const started = await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      using _place = await turnToStart(never, String(index % 8));
      return turn;
    }),
  );
  isOver = true;
  assert.equal(new Set(started).size, started.length);
});

test('who gives up while it waits takes no place', async () => {
  const places = await Promise.all(Array.from({ length: inContainer }, () => turnToStart(never, 'full')));
  const abort = new AbortController();
  const late = turnToStart(abort.signal, 'full');
  abort.abort(new Error('gave up'));
  await assert.rejects(late, /gave up/);
  for (const place of places) place[Symbol.dispose]();
  using _place = await turnToStart(never, 'full');
});
