import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { messageOf } from '../../base/errors.ts';
import type { ImageService } from '../create-images.ts';
import { putImage, startFakeRegistry } from '../testing/fake-registry.ts';
import type { FakeRegistry } from '../testing/fake-registry.ts';
import { createFakeStore } from '../testing/fake-store.ts';
import { openImages, pull } from '../testing/open-images.ts';

/** The same policy and the same name, given to skopeo and to us: which scope decides shows in what both do. */
const folder = mkdtempSync(join(tmpdir(), 'scopes-'));
const policy = join(folder, 'policy.json');
const conf = join(folder, 'registries.conf');
let registry: FakeRegistry;
let images: ImageService;
let digest: string;

before(async () => {
  registry = await startFakeRegistry();
  const { host } = registry;
  digest = putImage(registry, 'ns/app', '1').manifestDigest;
  const named = ['a.b.example.com', 'a.b.example.com:5000'].map(
    (prefix) => `[[registry]]\nprefix = "${prefix}"\nlocation = "${host}"\ninsecure = true\n`,
  );
  const toml = `[[registry]]\nlocation = "${host}"\ninsecure = true\n${named.join('')}`;
  writeFileSync(conf, toml);
  images = await openImages({ store: createFakeStore(folder), folder, toml, policy });
});

after(async () => {
  await images[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const accept = 'insecureAcceptAnything';
const reject = 'reject';

/** Scopes of the transport; HOST is the registry's address. */
type Scopes = Readonly<Record<string, typeof accept | typeof reject>>;

const one = 'a.b.example.com/ns/app:1';
const withPort = 'a.b.example.com:5000/ns/app:1';

const rows: readonly (readonly [string, Scopes, 'accepted' | 'refused'])[] = [
  ['HOST/ns/app:1', { '*.0.0.1': reject }, 'refused'],
  ['HOST/ns/app:1', { '*.0.0.1:PORT': reject }, 'accepted'],
  [withPort, { '*.b.example.com': reject }, 'refused'],
  [withPort, { '*.b.example.com:5000': reject }, 'accepted'],
  [withPort, { 'a.b.example.com': reject }, 'accepted'],
  [withPort, { 'a.b.example.com:5000': accept, '*.b.example.com': reject }, 'accepted'],
  [withPort, { 'a.b.example.com:5000/ns': reject, 'a.b.example.com:5000': accept }, 'refused'],
  [one, { '*.com': reject }, 'refused'],
  [one, { '*.com': reject, '*.example.com': accept }, 'accepted'],
  [one, { '*.b.example.com': accept, 'a.b.example.com': reject }, 'refused'],
  [one, { '*': reject }, 'accepted'],
  [one, { 'a.b.example.com/n': reject, 'a.b.example.com/ns/app:2': reject }, 'accepted'],
  [one, { 'a.b.example.com/ns/app': accept, 'a.b.example.com/ns/app:1': reject }, 'refused'],
  ['a.b.example.com/ns/app@DIGEST', { 'a.b.example.com/ns/app:1': accept, 'a.b.example.com/ns': reject }, 'refused'],
  ['a.b.example.com/ns/app@DIGEST', { 'a.b.example.com/ns/app@DIGEST': reject }, 'refused'],
  [one, { '': reject, '*.com': accept }, 'accepted'],
  [one, { '': reject }, 'refused'],
];

describe('the scope that decides, as for skopeo', () => {
  for (const [name, scopes, want] of rows) {
    it(`${name}: ${want} with ${JSON.stringify(scopes)}`, async () => {
      const reference = fill(name);
      const [wanted, other] = want === 'refused' ? [reject, accept] : [accept, reject];
      // Where a scope gives the wanted verdict, the default does not.
      const isByScope = Object.values<string>(scopes).includes(wanted);
      const docker = Object.entries(scopes).map(([scope, type]) => [fill(scope), [{ type }]]);
      const transports = { docker: Object.fromEntries(docker) };
      writeFileSync(policy, JSON.stringify({ default: [{ type: isByScope ? other : wanted }], transports }));
      const ours = await verdict(pull(images, reference));
      assert.deepEqual({ ours, skopeos: await verdict(skopeoCopy(reference)) }, { ours: want, skopeos: want });
    });
  }
});

function fill(text: string): string {
  const { host } = registry;
  return text
    .replace('HOST', host)
    .replace('PORT', host.slice(host.indexOf(':') + 1))
    .replace('DIGEST', digest);
}

/** Any other failure than a refusal is one of the test. */
async function verdict(act: Promise<unknown>): Promise<'accepted' | 'refused'> {
  try {
    await act;
    return 'accepted';
  } catch (error) {
    assert.match(messageOf(error), /Source image rejected: Running image docker:.* is rejected by policy/);
    return 'refused';
  }
}

function skopeoCopy(reference: string): Promise<unknown> {
  const args = ['--registries-conf', conf, '--policy', policy, 'copy', `docker://${reference}`];
  return promisify(execFile)('skopeo', [...args, `dir:${join(folder, 'out')}`]);
}
