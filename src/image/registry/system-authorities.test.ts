import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { rootCertificates } from 'node:tls';
import { loadSystemAuthorities } from './system-authorities.ts';

it('loadSystemAuthorities reads SSL_CERT_FILE and SSL_CERT_DIR, each certificate once', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'authorities-'));
  try {
    const [first = '', second = ''] = rootCertificates;
    await writeFile(join(dir, 'bundle'), `# comment\n${first}\n${first}\n`);
    await mkdir(join(dir, 'certs'));
    await writeFile(join(dir, 'certs/a.pem'), `${first}\n${second}\n`);
    await mkdir(join(dir, 'certs/folder'));
    assert.deepEqual(await loadSystemAuthorities({ SSL_CERT_FILE: join(dir, 'bundle') }), [first]);
    const both = { SSL_CERT_FILE: join(dir, 'bundle'), SSL_CERT_DIR: join(dir, 'certs') };
    assert.deepEqual(await loadSystemAuthorities(both), [first, second]);
    const none = { SSL_CERT_FILE: join(dir, 'none'), SSL_CERT_DIR: join(dir, 'none') };
    assert.deepEqual(await loadSystemAuthorities(none), rootCertificates);
  } finally {
    await rm(dir, { recursive: true });
  }
});
