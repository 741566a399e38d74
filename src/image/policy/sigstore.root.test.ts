import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { buildImages } from '../../../test/fixtures/build.ts';
import { startRegistry } from '../../../test/fixtures/registry.ts';
import type { Registry } from '../../../test/fixtures/registry.ts';
import {
  attachSignatures,
  authorityExtensions,
  sigstoreAnnotations,
  SigstoreMaker,
  signerExtensions,
  sigstorePayload,
} from '../../../test/fixtures/sigstore.ts';
import fc from 'fast-check';
import type { ImageService } from '../create-images.ts';
import { failure } from '../testing/bench.ts';
import { createFakeStore } from '../testing/fake-store.ts';
import { insecure, openImages, pull } from '../testing/open-images.ts';
import { readCertificate } from './certificate.ts';
import { readPem } from './pem.ts';

/** Keys, certificates and signatures of the real openssl, images and attachments in a real docker-registry. */
const folder = mkdtempSync(join(tmpdir(), 'sigstore-'));
const make = new SigstoreMaker(join(folder, 'keys'));
const repository = 'docker.io/library/busybox';
const email = 'builder@example.com';
const oidcIssuer = 'https://login.example.com/oauth';
const hour = 3600_000;
const signedAt = new Date(Date.now() - 24 * hour);
/** Fulcio's certificates live for minutes, those of its authorities for years. */
const minutes = { from: new Date(signedAt.getTime() - 60_000), until: new Date(signedAt.getTime() + 540_000) };
const years = { from: new Date(Date.now() - 1000 * hour), until: new Date(Date.now() + 1000 * hour) };

let registry: Registry;
let images: ImageService;
let digest = '';
let name = '';
const policy = join(folder, 'policy.json');

before(async () => {
  const small = await buildImages('small');
  digest = small.digests[`${repository}:latest`] ?? '';
  cpSync(small.storage, join(folder, 'registry'), { recursive: true });
  registry = await startRegistry({ storage: join(folder, 'registry') });
  name = `${registry.address}/${repository}`;
  mkdirSync(join(folder, 'registries.d'));
  writeFileSync(join(folder, 'registries.d/a.yaml'), 'default-docker:\n  use-sigstore-attachments: true\n');
  images = await openImages({
    store: createFakeStore(folder),
    folder,
    toml: insecure(registry.address),
    policy,
    places: { registriesD: [join(folder, 'registries.d')] },
  });
  for (const key of ['signer', 'stranger', 'rekor', 'rekor2']) make.key(key);
  make.certificate('root', { extensions: authorityExtensions, ...years });
  make.certificate('middle', { extensions: authorityExtensions, issuer: 'root', ...years });
  make.certificate('leaf', { extensions: signerExtensions(email, oidcIssuer), issuer: 'middle', ...minutes });
});

after(async () => {
  await images[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

interface Signed {
  /** Whose key signs. */
  readonly key?: string;
  /** Whose certificate is attached, with those above it. */
  readonly chain?: readonly string[];
  /** The log that takes the signature, and when. */
  readonly log?: string;
  readonly at?: Date;
  /** Replaces parts of the log's entry. */
  readonly entry?: object;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Signs the image and attaches the signature, in the place of the one before. */
async function sign({ key = 'leaf', chain, log, at = signedAt, entry, annotations = {} }: Signed): Promise<void> {
  const payload = sigstorePayload(name, digest);
  const signature = make.sign(key, payload);
  const [leaf, ...above] = chain ?? [];
  const signer = make.read(leaf === undefined ? `${key}.pub` : `${leaf}.crt`);
  await attachSignatures(registry, repository, digest, [
    {
      payload,
      annotations: {
        [sigstoreAnnotations.signature]: signature.toString('base64'),
        ...(leaf === undefined ? {} : { [sigstoreAnnotations.certificate]: signer }),
        ...(above.length === 0
          ? {}
          : { [sigstoreAnnotations.chain]: above.map((each) => make.read(`${each}.crt`)).join('') }),
        ...(log === undefined
          ? {}
          : {
              [sigstoreAnnotations.bundle]: make.rekorBundle(log, {
                signer,
                signature,
                payload,
                at,
                ...(entry === undefined ? {} : { change: entry }),
              }),
            }),
        ...annotations,
      },
    },
  ]);
}

function require(rule: object): void {
  const requirement = { type: 'sigstoreSigned', signedIdentity: { type: 'matchRepository' }, ...rule };
  writeFileSync(policy, JSON.stringify({ default: [requirement] }));
}

async function refuses(want: RegExp): Promise<void> {
  assert.match(await failure(pull(images, name)), want);
}

describe('sigstoreSigned with keys', () => {
  it('takes any of several keys, from files or the policy', async () => {
    await sign({ key: 'signer' });
    for (const rule of [
      { keyPath: make.path('signer.pub') },
      { keyPaths: [make.path('stranger.pub'), make.path('signer.pub')] },
      { keyData: make.data('signer.pub') },
      { keyDatas: [make.data('stranger.pub'), make.data('signer.pub')] },
    ]) {
      require(rule);
      await pull(images, name);
    }
    require({ keyDatas: [make.data('stranger.pub'), make.data('rekor.pub')] });
    await refuses(/^SignatureValidationFailed: .*made by none of the keys/);
    require({ keyPath: make.path('signer.key') });
    await refuses(/read public key ".*signer\.key": unexpected "PRIVATE KEY"/);
  });

  it('wants the entry of a log when the policy names one', async () => {
    require({ keyPath: make.path('signer.pub'), rekorPublicKeyPath: make.path('rekor.pub') });
    await sign({ key: 'signer' });
    await refuses(/missing dev\.sigstore\.cosign\/bundle annotation/);
    await sign({ key: 'signer', log: 'rekor2' });
    await refuses(/cryptographic signature verification of Rekor SET failed/);
    await sign({ key: 'signer', log: 'rekor' });
    await pull(images, name);
    for (const rule of [
      { rekorPublicKeyPaths: [make.path('rekor2.pub'), make.path('rekor.pub')] },
      { rekorPublicKeyData: make.data('rekor.pub') },
      { rekorPublicKeyDatas: [make.data('rekor2.pub'), make.data('rekor.pub')] },
    ]) {
      require({ keyPaths: [make.path('stranger.pub'), make.path('signer.pub')], ...rule });
      await pull(images, name);
    }
    require({ keyPath: make.path('stranger.pub'), rekorPublicKeyPath: make.path('rekor.pub') });
    await refuses(/No public key verified against the RekorSET: publicKey in Rekor SET does not match/);
  });

  it('refuses an entry of the log that is about something else', async () => {
    require({ keyPath: make.path('signer.pub'), rekorPublicKeyPath: make.path('rekor.pub') });
    const hash = { algorithm: 'sha256', value: 'd'.repeat(64) };
    const content = Buffer.from('other').toString('base64');
    const publicKey = { content: make.data('signer.pub') };
    const signature = make.sign('signer', sigstorePayload(name, digest)).toString('base64');
    for (const [entry, want] of [
      [{ kind: 'intoto' }, /unsupported kind "intoto 0\.0\.1"/],
      [{ apiVersion: '0.0.2' }, /unsupported kind "hashedrekord 0\.0\.2"/],
      [{ spec: {} }, /signature: missing/],
      [{ spec: { signature: { content, publicKey }, data: { hash } } }, /signature in Rekor SET does not match/],
    ] as const) {
      await sign({ key: 'signer', log: 'rekor', entry });
      await refuses(want);
    }
    // openssl signs with a new random number each time, so the entry needs the very same signature.
    const payload = sigstorePayload(name, digest);
    const bundle = make.rekorBundle('rekor', {
      signer: make.read('signer.pub'),
      signature: Buffer.from(signature, 'base64'),
      payload,
      change: { spec: { signature: { content: signature, publicKey }, data: { hash } } },
    });
    const annotations = { [sigstoreAnnotations.signature]: signature, [sigstoreAnnotations.bundle]: bundle };
    await attachSignatures(registry, repository, digest, [{ payload, annotations }]);
    await refuses(/payload in Rekor SET does not match/);
    const text = bundle.replace('"logIndex":7', '"logIndex":8');
    await attachSignatures(registry, repository, digest, [
      { payload, annotations: { ...annotations, [sigstoreAnnotations.bundle]: text } },
    ]);
    await refuses(/cryptographic signature verification of Rekor SET failed/);
  });
});

describe('sigstoreSigned with fulcio', () => {
  const trust = (change: object = {}) => ({
    fulcio: { caPath: make.path('root.crt'), oidcIssuer, subjectEmail: email, ...change },
    rekorPublicKeyPath: make.path('rekor.pub'),
  });
  const chain = ['leaf', 'middle', 'root'];

  it('takes a certificate that was valid when the log took the signature, though it is not any more', async () => {
    await sign({ chain, log: 'rekor' });
    require(trust());
    await pull(images, name);
    require({ ...trust(), fulcio: { caData: make.data('root.crt'), oidcIssuer, subjectEmail: email } });
    await pull(images, name);
  });

  it('refuses another time, identity, issuer, log and authority', async () => {
    require(trust());
    await sign({ chain, log: 'rekor', at: new Date() });
    await refuses(/^SignatureValidationFailed: .*verifying leaf certificate failed: "CN=leaf": expired at/);
    await sign({ chain, log: 'rekor', at: new Date(minutes.from.getTime() - 1000) });
    await refuses(/not yet valid at/);
    await sign({ chain, log: 'rekor2' });
    await refuses(/cryptographic signature verification of Rekor SET failed/);
    await sign({ chain, log: 'rekor' });
    require(trust({ subjectEmail: 'other@example.com' }));
    await refuses(/Required email "other@example\.com" not found \(got "builder@example\.com"\)/);
    require(trust({ oidcIssuer: 'https://other' }));
    await refuses(/Unexpected Fulcio OIDC issuer "https:\/\/login\.example\.com\/oauth"/);
    make.certificate('stranger-root', { extensions: authorityExtensions, ...years });
    require(trust({ caPath: make.path('stranger-root.crt') }));
    await refuses(/signed by unknown authority/);
  });

  it('refuses a signature without certificate, log entry, chain, or by another key', async () => {
    require(trust());
    await sign({ key: 'leaf' });
    await refuses(/missing dev\.sigstore\.cosign\/bundle annotation/);
    await sign({ key: 'leaf', log: 'rekor' });
    await refuses(/missing dev\.sigstore\.cosign\/certificate annotation/);
    await sign({ chain: ['leaf'], log: 'rekor' });
    await refuses(/signed by unknown authority/);
    await sign({ key: 'stranger', chain, log: 'rekor' });
    await refuses(/cryptographic signature verification failed/);
    await sign({ chain, log: 'rekor', annotations: { [sigstoreAnnotations.certificate]: make.read('middle.crt') } });
    await refuses(/publicKey in Rekor SET does not match/);
  });

  const signer = signerExtensions(email, oidcIssuer);
  const bad: readonly (readonly [
    string,
    { leaf?: readonly string[]; middle?: readonly string[]; until?: Date },
    RegExp,
  ])[] = [
    [
      'an issuer that is no authority',
      { middle: ['basicConstraints=CA:FALSE'] },
      /not an authority \(basicConstraints\)/,
    ],
    ['an issuer without basicConstraints', { middle: ['keyUsage=keyCertSign'] }, /not an authority/],
    [
      'an issuer that may not sign certificates',
      { middle: ['basicConstraints=critical,CA:TRUE', 'keyUsage=digitalSignature'] },
      /its keyUsage does not allow to sign certificates/,
    ],
    [
      'an issuer for servers only',
      { middle: [...authorityExtensions, 'extendedKeyUsage=serverAuth'] },
      /its extendedKeyUsage does not allow code signing/,
    ],
    ['an issuer that has expired', { until: new Date(signedAt.getTime() - 1000) }, /expired at/],
    [
      'a certificate for servers',
      { leaf: signer.map((line) => line.replace('codeSigning', 'serverAuth')) },
      /does not allow code signing/,
    ],
    [
      'a certificate for anything',
      { leaf: signer.filter((line) => !line.startsWith('extendedKeyUsage')) },
      /not for code signing/,
    ],
    [
      'a certificate without the issuer of the identity',
      { leaf: signer.filter((line) => !line.includes('57264')) },
      /missing the issuer extension/,
    ],
    [
      'a certificate with two issuers of the identity',
      { leaf: signer.map((line) => line.replace('UTF8String:https', 'UTF8String:http')) },
      /its two OIDC issuers differ/,
    ],
    [
      'a certificate without an email address',
      { leaf: signer.filter((line) => !line.startsWith('subjectAltName')) },
      /Required email .* not found/,
    ],
    [
      'an unknown critical extension',
      { leaf: [...signer, '1.2.3.4=critical,ASN1:NULL'] },
      /unknown critical extension 1\.2\.3\.4/,
    ],
    [
      'a name that its authority excludes',
      { middle: [...authorityExtensions, 'nameConstraints=critical,excluded;email:.com'] },
      /excludes the name "builder@example\.com"/,
    ],
    [
      'a name that its authority does not permit',
      { middle: [...authorityExtensions, 'nameConstraints=permitted;email:example.org,permitted;DNS:example.com'] },
      /does not permit the name "builder@example\.com"/,
    ],
    [
      'critical constraints of names that are not compared',
      { middle: [...authorityExtensions, 'nameConstraints=critical,excluded;RID:1.2.3'] },
      /"CN=middle-\d+": critical name constraints of kind 8 are not supported/,
    ],
  ];
  for (const [
    index,
    [what, { leaf = signer, middle = authorityExtensions, until = years.until }, want],
  ] of bad.entries()) {
    it(`refuses ${what}`, async () => {
      const names = [`leaf-${index}`, `middle-${index}`] as const;
      make.certificate(names[1], { extensions: middle, issuer: 'root', from: years.from, until });
      make.certificate(names[0], { extensions: leaf, issuer: names[1], ...minutes });
      require(trust());
      await sign({ key: names[0], chain: [...names, 'root'], log: 'rekor' });
      await refuses(want);
    });
  }

  it('reads a damaged certificate as one or refuses it with a clear text, never otherwise', () => {
    const [block] = readPem(make.read('leaf.crt'), 'x');
    const der = block?.der ?? Buffer.alloc(0);
    assert.deepEqual(readCertificate(der, 'x').emails, [email]);
    const change = fc.record({ at: fc.nat(der.length - 1), to: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const damaged = Buffer.from(der);
        for (const { at, to } of changes) damaged[at] = to;
        try {
          readCertificate(damaged, 'x');
        } catch (error) {
          assert.equal((error as { kind?: string }).kind, 'invalid');
        }
      }),
      { numRuns: 500 },
    );
  });

  it('refuses more authorities in a row than one of them allows', async () => {
    const limited = ['basicConstraints=critical,CA:TRUE,pathlen:0', 'keyUsage=critical,keyCertSign'];
    make.certificate('narrow', { extensions: limited, issuer: 'root', ...years });
    make.certificate('below', { extensions: authorityExtensions, issuer: 'narrow', ...years });
    make.certificate('leaf-narrow', { extensions: signer, issuer: 'narrow', ...minutes });
    make.certificate('leaf-below', { extensions: signer, issuer: 'below', ...minutes });
    require(trust());
    await sign({ key: 'leaf-narrow', chain: ['leaf-narrow', 'narrow', 'root'], log: 'rekor' });
    await pull(images, name);
    await sign({ key: 'leaf-below', chain: ['leaf-below', 'below', 'narrow', 'root'], log: 'rekor' });
    await refuses(/"CN=narrow": allows 0 authorities below it, not 1/);
  });

  it('takes a name that every authority above permits, and refuses one that the root excludes', async () => {
    const limits = (...names: string[]) => [...authorityExtensions, `nameConstraints=critical,${names.join(',')}`];
    const wide = limits(
      'permitted;email:com',
      'excluded;email:other.example.com',
      'excluded;email:someone@example.com',
    );
    make.certificate('wide', { extensions: wide, ...years });
    make.certificate('own', { extensions: limits('permitted;email:example.com'), issuer: 'wide', ...years });
    make.certificate('leaf-own', { extensions: signer, issuer: 'own', ...minutes });
    require(trust({ caPath: make.path('wide.crt') }));
    await sign({ key: 'leaf-own', chain: ['leaf-own', 'own', 'wide'], log: 'rekor' });
    await pull(images, name);
    make.certificate('hard', { extensions: limits(`excluded;email:${email}`), ...years });
    make.certificate('between', { extensions: authorityExtensions, issuer: 'hard', ...years });
    make.certificate('leaf-hard', { extensions: signer, issuer: 'between', ...minutes });
    require(trust({ caPath: make.path('hard.crt') }));
    await sign({ key: 'leaf-hard', chain: ['leaf-hard', 'between', 'hard'], log: 'rekor' });
    await refuses(/"CN=hard": excludes the name "builder@example\.com"/);
  });

  it('ignores constraints of names that are not compared, and roots that it cannot use beside one that it can', async () => {
    const limited = (limits: string) => [...authorityExtensions, `nameConstraints=${limits}`];
    make.certificate('lax', { extensions: limited(`excluded;RID:1.2.3,permitted;email:${email}`), ...years });
    make.certificate('strict', { extensions: limited('critical,permitted;RID:1.2.3'), ...years });
    make.certificate('new', { extensions: [...authorityExtensions, '1.2.3.4=critical,ASN1:NULL'], ...years });
    make.certificate('leaf-lax', { extensions: signer, issuer: 'lax', ...minutes });
    writeFileSync(make.path('all.crt'), ['strict', 'new', 'lax'].map((each) => make.read(`${each}.crt`)).join(''));
    require(trust({ caPath: make.path('all.crt') }));
    await sign({ key: 'leaf-lax', chain: ['leaf-lax', 'lax'], log: 'rekor' });
    await pull(images, name);
  });

  it('takes a root that signed itself with SHA-1, which nobody looks at, and refuses what it signed like that', async () => {
    make.certificate('old', { extensions: authorityExtensions, hash: 'sha1', ...years });
    make.certificate('leaf-old', { extensions: signer, issuer: 'old', ...minutes });
    make.certificate('leaf-weak', { extensions: signer, issuer: 'old', hash: 'sha1', ...minutes });
    require(trust({ caPath: make.path('old.crt') }));
    await sign({ key: 'leaf-old', chain: ['leaf-old', 'old'], log: 'rekor' });
    await pull(images, name);
    await sign({ key: 'leaf-weak', chain: ['leaf-weak', 'old'], log: 'rekor' });
    await refuses(/"CN=leaf-weak": its signature algorithm 1\.2\.840\.10045\.4\.1 is not accepted/);
  });

  it('takes RSA-PSS with SHA-2 throughout, and refuses it with SHA-1 in either place', async () => {
    const pss = 'rsa_padding_mode:pss';
    make.certificate('rsa', { extensions: authorityExtensions, key: 'RSA', ...years });
    require(trust({ caPath: make.path('rsa.crt') }));
    for (const [leaf, hash, signatureOptions, isGood] of [
      ['leaf-pss', 'sha256', [pss], true],
      ['leaf-pss-sha1', 'sha1', [pss], false],
      ['leaf-pss-mask', 'sha256', [pss, 'rsa_mgf1_md:sha1'], false],
    ] as const) {
      make.certificate(leaf, { extensions: signer, issuer: 'rsa', hash, signatureOptions, ...minutes });
      await sign({ key: leaf, chain: [leaf, 'rsa'], log: 'rekor' });
      if (isGood) await pull(images, name);
      else await refuses(new RegExp(`"CN=${leaf}": its RSA-PSS signature is not one with SHA-2 throughout`));
    }
  });

  it('refuses a chain whose certificates have too many names for the constraints above them', async () => {
    const hosts = (mark: string, count: number) => Array.from({ length: count }, (_, at) => `DNS:${mark}${at}.org`);
    const limits = hosts('x', 600).map((host) => `excluded;${host}`);
    const authority = [...authorityExtensions, `subjectAltName=${hosts('m', 300).join()}`];
    make.certificate('listed', { extensions: [...authorityExtensions, `nameConstraints=${limits.join()}`], ...years });
    make.certificate('named', { extensions: authority, issuer: 'listed', ...years });
    require(trust({ caPath: make.path('listed.crt') }));
    for (const [leaf, count] of [
      ['leaf-few', 100],
      ['leaf-many', 300],
    ] as const) {
      const names = `subjectAltName=email:${email},${hosts('l', count).join()}`;
      const extensions = signer.map((line) => (line.startsWith('subjectAltName') ? names : line));
      make.certificate(leaf, { extensions, issuer: 'named', ...minutes });
      await sign({ key: leaf, chain: [leaf, 'named', 'listed'], log: 'rekor' });
      if (count === 100) await pull(images, name);
      else await refuses(/too many name constraints for its names/);
    }
  });

  it('refuses an authority that has the name of the root only, with its key identifier or without', async () => {
    const bare = ['subjectKeyIdentifier=none', 'authorityKeyIdentifier=none'];
    for (const [more, why] of [
      [[], 'issue'],
      [bare, 'sign'],
    ] as const) {
      make.certificate('real', { extensions: [...authorityExtensions, ...more], ...years });
      writeFileSync(make.path('first.crt'), make.read('real.crt'));
      make.certificate('real', { extensions: [...authorityExtensions, ...more], ...years });
      make.certificate('leaf-false', { extensions: [...signer, ...more], issuer: 'real', ...minutes });
      require(trust({ caPath: make.path('first.crt') }));
      await sign({ key: 'leaf-false', chain: ['leaf-false', 'real'], log: 'rekor' });
      await refuses(new RegExp(`"CN=real": did not ${why} "CN=leaf-false"`));
    }
  });
});

describe('sigstoreSigned with pki', () => {
  const now = { from: new Date(Date.now() - hour), until: new Date(Date.now() + hour) };
  const roots = () => ({ caRootsPath: make.path('root.crt') });

  before(() => {
    const extensions = ['extendedKeyUsage=codeSigning', `subjectAltName=email:${email},DNS:*.build.example.com`];
    make.certificate('pki', { extensions, issuer: 'middle', ...now });
  });

  it('takes a certificate that is valid now, with its chain from the signature or the policy', async () => {
    await sign({ key: 'pki', chain: ['pki', 'middle', 'root'] });
    require({ pki: { ...roots(), subjectEmail: email } });
    await pull(images, name);
    require({
      pki: { caRootsData: make.data('root.crt'), subjectHostname: 'a.build.example.com', subjectEmail: email },
    });
    await pull(images, name);
    await sign({ key: 'pki', chain: ['pki'] });
    await refuses(/signed by unknown authority/);
    for (const more of [
      { caIntermediatesPath: make.path('middle.crt') },
      { caIntermediatesData: make.data('middle.crt') },
    ]) {
      require({ pki: { ...roots(), ...more, subjectEmail: email } });
      await pull(images, name);
    }
  });

  it('refuses another identity, and a certificate that has expired', async () => {
    await sign({ key: 'pki', chain: ['pki', 'middle', 'root'] });
    for (const [rule, want] of [
      [{ subjectEmail: 'builder@example.co' }, /Required email "builder@example\.co" not found/],
      [{ subjectHostname: 'build.example.com' }, /Unexpected subject hostname/],
      [{ subjectHostname: 'a.b.build.example.com' }, /Unexpected subject hostname/],
      [{ subjectHostname: '.build.example.com' }, /Unexpected subject hostname/],
      [{ subjectHostname: 'pki' }, /Unexpected subject hostname/],
      [{ subjectEmail: email, subjectHostname: 'other.example.com' }, /Unexpected subject hostname/],
    ] as const) {
      require({ pki: { ...roots(), ...rule } });
      await refuses(want);
    }
    await sign({ chain: ['leaf', 'middle', 'root'] });
    require({ pki: { ...roots(), subjectEmail: email } });
    await refuses(/expired at/);
  });
});
