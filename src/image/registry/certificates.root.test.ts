import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { env } from 'node:process';
import { describe, it } from 'node:test';
import { failure } from '../testing/bench.ts';
import { defaultCertificateDirs, TlsContexts } from './certificates.ts';

describe('certificates', () => {
  it('of the own home come before those of the machine, as with skopeo; XDG_CONFIG_HOME does not count', async () => {
    using stack = new DisposableStack();
    const home = mkdtempSync(join(tmpdir(), 'certs-'));
    const host = '127.0.0.1:1';
    // A key without a certificate is an error that tells where it was found.
    const places = [
      join(home, '.config/containers/certs.d'),
      join(home, 'xdg/containers/certs.d'),
      '/etc/containers/certs.d',
    ];
    for (const [index, place] of places.entries()) {
      mkdirSync(join(place, host), { recursive: true });
      stack.defer(() => rmSync(join(place, host), { recursive: true, force: true }));
      writeFileSync(join(place, host, `key-${index}.key`), '');
    }
    stack.defer(() => rmSync(home, { recursive: true }));
    const own = { ...env, HOME: home, XDG_CONFIG_HOME: join(home, 'xdg') };
    const found = async (): Promise<readonly (string | undefined)[]> => {
      const ours = await failure(new TlsContexts(defaultCertificateDirs(own)).open([host], { verify: true }));
      const theirs = spawnSync('skopeo', ['inspect', `docker://${host}/a:1`], { env: own, encoding: 'utf8' }).stderr;
      return [ours, theirs].map((text) => /missing client certificate (key-\d)/.exec(text)?.[1]);
    };
    assert.deepEqual(await found(), ['key-0', 'key-0']);
    rmSync(join(home, '.config'), { recursive: true });
    assert.deepEqual(await found(), ['key-2', 'key-2']);
  });
});
