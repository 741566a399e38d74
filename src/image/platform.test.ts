import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { choosePlatform } from './platform.ts';
import type { Platform } from './platform.ts';

/** `linux/arm64/v8` */
function platform(text: string): Platform {
  const [os = '', architecture = '', variant = ''] = text.split('/');
  return { os, architecture, variant };
}

describe('choosePlatform', () => {
  const cases: readonly (readonly [host: string, list: readonly string[], want: number])[] = [
    ['linux/arm64', ['linux/arm64', 'linux/arm64/v8'], 1],
    ['linux/arm64', ['linux/arm64/v9', 'linux/arm/v8', 'linux/arm64'], 2],
    ['linux/arm64', ['linux/arm64/v9'], -1],
    ['linux/amd64', ['linux/amd64/v1', 'linux/amd64'], 1],
    ['linux/amd64', ['linux/amd64/v3', 'linux/amd64/v1'], 1],
    ['linux/amd64', ['linux/amd64/v3', 'linux/386', 'windows/amd64', 'unknown/unknown', '//'], -1],
    ['linux/amd64', ['linux/amd64', 'linux/amd64'], 0],
    ['linux/riscv64', ['linux/riscv64/x', 'linux/riscv64'], 1],
  ];
  for (const [host, list, want] of cases) {
    it(`on ${host} takes ${list[want] ?? 'none'} of ${list.join(', ')}`, () => {
      const entries = list.map((text) => ({ platform: platform(text) }));
      assert.equal(entries.indexOf(choosePlatform(entries, platform(host)) ?? { platform: platform('') }), want);
    });
  }

  it('takes none that has no platform', () =>
    assert.equal(choosePlatform([{ platform: undefined }], platform('linux/amd64')), undefined));
});
