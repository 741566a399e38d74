import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Call } from './call.ts';
import { silentLog } from './log.ts';
import { Operations } from './operations.ts';

function call(signal?: AbortSignal): Call {
  return new Call({ name: 'test', id: '1', log: silentLog, ...(signal === undefined ? {} : { signal }) });
}

test('Operations: a second request with the same name joins the first', async () => {
  const operations = new Operations<number>({ keepResultMs: 1000, takeBack: async () => {} });
  let runs = 0;
  const start = {
    call: () => call(),
    run: async () => {
      runs += 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
      return runs;
    },
  };
  const results = await Promise.all([
    operations.joinOrStart('a', call(), start),
    operations.joinOrStart('a', call(), start),
  ]);
  assert.deepEqual(results, [1, 1]);
  assert.equal(await operations.joinOrStart('a', call(), start), 2, 'a result that was taken is not given again');
});

test('Operations: a caller that leaves gets the stage, and the next one gets the result', async () => {
  const operations = new Operations<string>({ keepResultMs: 1000, takeBack: async () => {} });
  const { promise, resolve } = Promise.withResolvers<string>();
  const start = {
    call: () => call(),
    run: (own: Call) => {
      own.stage('sandbox network creation');
      return promise;
    },
  };
  const abort = new AbortController();
  const first = operations.joinOrStart('pod', call(abort.signal), start);
  abort.abort();
  await assert.rejects(first, { kind: 'deadline', message: /stage "sandbox network creation"/ });
  resolve('id');
  await promise;
  assert.equal(await operations.joinOrStart('pod', call(), start), 'id');
});

test('Operations: a result that nobody takes is undone', async () => {
  const undone: string[] = [];
  const operations = new Operations<string>({
    keepResultMs: 5,
    takeBack: async (result) => {
      undone.push(result);
    },
  });
  const { promise, resolve } = Promise.withResolvers<string>();
  const abort = new AbortController();
  const waiting = operations.joinOrStart('pod', call(abort.signal), { call: () => call(), run: () => promise });
  abort.abort();
  await assert.rejects(waiting);
  resolve('id');
  await new Promise((done) => setTimeout(done, 30));
  assert.deepEqual(undone, ['id']);
  assert.equal(operations.running('pod'), undefined);
});

test('Operations: a failure is given to all waiters and forgotten', async () => {
  const operations = new Operations<string>({ keepResultMs: 1000, takeBack: async () => {} });
  const failing = { call: () => call(), run: () => Promise.reject(new Error('no')) };
  await assert.rejects(operations.joinOrStart('x', call(), failing), /no/);
  const working = { call: () => call(), run: () => Promise.resolve('yes') };
  assert.equal(await operations.joinOrStart('x', call(), working), 'yes');
});

test('Operations: a result whose only waiter leaves as it arrives is undone, and a request meanwhile waits for that', async () => {
  const { promise: undone, resolve: finishUndo } = Promise.withResolvers<void>();
  const taken: string[] = [];
  const operations = new Operations<string>({
    keepResultMs: 1,
    takeBack: async (result) => {
      taken.push(result);
      await undone;
    },
  });
  const { promise, resolve } = Promise.withResolvers<string>();
  const abort = new AbortController();
  const waiting = operations.joinOrStart('pod', call(abort.signal), { call: () => call(), run: () => promise });
  resolve('first');
  abort.abort();
  await assert.rejects(waiting);
  await new Promise((done) => setTimeout(done, 20));
  assert.deepEqual(taken, ['first']);
  const both = Promise.all(
    [1, 2].map(() => operations.joinOrStart('pod', call(), { call: () => call(), run: async () => 'second' })),
  );
  finishUndo();
  assert.deepEqual(await both, ['second', 'second']);
});

test('Operations: who finds an unfinished operation is reported with its stage, who takes a kept result is not', async () => {
  const stages: string[] = [];
  const operations = new Operations<string>({
    keepResultMs: 1000,
    takeBack: async () => {},
    onJoin: (running) => stages.push(running.currentStage.name),
  });
  const { promise, resolve } = Promise.withResolvers<string>();
  const start = {
    call: () => call(),
    run(own: Call) {
      own.stage('container storage creation');
      return promise;
    },
  };
  const abort = new AbortController();
  const first = operations.joinOrStart('a', call(abort.signal), start);
  assert.deepEqual(stages, []);
  const second = operations.joinOrStart('a', call(abort.signal), start);
  assert.deepEqual(stages, ['container storage creation']);
  abort.abort();
  await assert.rejects(first);
  await assert.rejects(second);
  resolve('made');
  await promise;
  assert.equal(await operations.joinOrStart('a', call(), start), 'made');
  assert.equal(stages.length, 1);
});
