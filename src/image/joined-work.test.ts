import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CrioError } from '../base/errors.ts';
import { JoinedWork } from './joined-work.ts';

describe('JoinedWork', () => {
  it('goes on for the whole grace after the last of several waiters that left one after another', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const works = new JoinedWork<void>({ graceMs: 1000 });
    const seen: AbortSignal[] = [];
    const work = async (signal: AbortSignal): Promise<void> => {
      seen.push(signal);
      await new Promise<void>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    };
    const comeAndGo = async (): Promise<void> => {
      const waiter = new AbortController();
      const { result } = works.join('key', waiter.signal, work);
      waiter.abort(new CrioError('deadline', 'context deadline exceeded'));
      await assert.rejects(result, /deadline/);
    };
    await comeAndGo();
    t.mock.timers.tick(900);
    await comeAndGo();
    t.mock.timers.tick(900);
    assert.deepEqual(
      seen.map((signal) => signal.aborted),
      [false],
      'the second waiter has a grace of its own',
    );
    t.mock.timers.tick(100);
    assert.equal(seen[0]?.aborted, true);
  });

  it('does not end what somebody waits for again', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const works = new JoinedWork<string>({ graceMs: 1000 });
    const { promise, resolve } = Promise.withResolvers<string>();
    const waiter = new AbortController();
    const first = works.join('key', waiter.signal, () => promise);
    waiter.abort();
    await assert.rejects(first.result, /context canceled/);
    const second = works.join('key', new AbortController().signal, () => promise);
    assert.deepEqual([first.isOwner, second.isOwner], [true, false]);
    t.mock.timers.tick(5000);
    resolve('done');
    assert.equal(await second.result, 'done');
  });
});
