import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { env } from 'node:process';
import { after, before, describe, it } from 'node:test';
import { parseReference } from '../reference.ts';
import { findCredentials } from './find-credentials.ts';

describe('credential helpers and auth files are read as skopeo reads them', () => {
  const dir = mkdtempSync(join(tmpdir(), 'helpers-'));
  const file = (name: string) => join(dir, name);
  const path = env['PATH'] ?? '';
  const reference = parseReference('docker.io/team/app:1');
  const never = new AbortController().signal;

  before(() => {
    const program = `#!/bin/sh\necho "$1 $(cat)" >> "${file('asked')}"\necho credentials not found in native keychain; exit 1\n`;
    writeFileSync(file('docker-credential-test'), program, { mode: 0o755 });
    env['PATH'] = `${dir}:${path}`;
  });
  after(() => {
    env['PATH'] = path;
    rmSync(dir, { recursive: true });
  });

  async function asked(act: () => unknown): Promise<string> {
    writeFileSync(file('asked'), '');
    await act();
    return readFileSync(file('asked'), 'utf8');
  }

  /** It asks helpers before the network, where it finds nobody. */
  const skopeo = () =>
    spawnSync(
      'skopeo',
      [
        '--registries-conf',
        file('registries.conf'),
        'inspect',
        '--authfile',
        file('auth.json'),
        'docker://docker.io/team/app:1',
      ],
      {
        env: { ...env, HTTPS_PROXY: 'http://127.0.0.1:1' },
      },
    );

  it('by registries.conf', async () => {
    writeFileSync(file('auth.json'), '{}');
    writeFileSync(file('registries.conf'), 'credential-helpers = ["test"]\n');
    const want = await asked(skopeo);
    const files = { explicit: undefined, defaults: [], helpers: ['test'] };
    assert.equal(await asked(() => findCredentials(files, reference, never)), want);
    assert.notEqual(want, '');
  });

  it('by the auth file', async () => {
    writeFileSync(file('registries.conf'), '');
    writeFileSync(file('auth.json'), JSON.stringify({ credHelpers: { 'docker.io': 'test' } }));
    const want = await asked(skopeo);
    const files = { explicit: file('auth.json'), defaults: [], helpers: undefined };
    assert.equal(await asked(() => findCredentials(files, reference, never)), want);
    assert.notEqual(want, '');
  });

  it('and an entry without user and password does not keep them from asking the registry', async () => {
    const auth = Buffer.from('no colon').toString('base64');
    writeFileSync(file('auth.json'), JSON.stringify({ auths: { 'docker.io': { auth } } }));
    assert.match(skopeo().stderr.toString(), /pinging container registry .*connection refused/);
    const files = { explicit: file('auth.json'), defaults: [], helpers: undefined };
    assert.match((await findCredentials(files, reference, never))?.source ?? '', /^no credentials: .*"docker\.io"/);
  });
});
