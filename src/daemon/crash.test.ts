import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

const crash = JSON.stringify(new URL('crash.ts', import.meta.url).href);
const log = JSON.stringify(new URL('../base/log.ts', import.meta.url).href);

for (const [what, code, text] of [
  ['an exception in a timer', "setTimeout(() => { throw new Error('unexpected'); });", 'Uncaught exception'],
  ['a rejection', "Promise.reject(new Error('unexpected'));", 'Unhandled rejection'],
] as const) {
  test(`${what} that nobody catches ends the daemon with a line in its log`, () => {
    const script = `
      const { endOnUncaughtErrors } = await import(${crash});
      const { Logger, stderrSink } = await import(${log});
      endOnUncaughtErrors(new Logger(stderrSink()));
      setTimeout(() => process.exit(0), 10_000);
      ${code}`;
    const child = spawnSync(process.execPath, ['--input-type=module', '--eval', script], { encoding: 'utf8' });
    assert.equal(child.status, 1);
    assert.match(child.stderr, new RegExp(`^time="[^"]*" level=fatal msg="${text}: Error: unexpected\\\\n +at .*"\n$`));
  });
}
