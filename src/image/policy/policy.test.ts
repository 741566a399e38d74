import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { defaultConfig } from '../../config/config.ts';
import { mediaTypes } from '../media-types.ts';
import { JsonReader, parseStrictJson } from '../json.ts';
import { parseReference } from '../reference.ts';
import { failure, openBench } from '../testing/bench.ts';
import type { Bench } from '../testing/bench.ts';
import { putImage, sendError } from '../testing/fake-registry.ts';
import { findPolicyRule } from './decide.ts';
import { matchesIdentity, readSignedIdentity } from './identity.ts';
import { parsePolicy } from './policy-file.ts';
import { policyProblems } from './policy-problems.ts';
import { policyScopes } from './policy-scopes.ts';
import { signatureAnnotation, sigstoreMimeType } from './sigstore.ts';
import { storedEvidence } from './verify-use.ts';
import { parseYamlMapping } from './yaml-mapping.ts';

const accept = [{ type: 'insecureAcceptAnything' }];

function policyOf(value: unknown) {
  return parsePolicy(Buffer.from(JSON.stringify(value)), 'p.json');
}

describe('findPolicyRule', () => {
  it('goes from the image to its registry, wildcards, the transport and the default', () => {
    assert.deepEqual(policyScopes(parseReference('a.b.example.com:5000/x/y:1')), [
      'a.b.example.com:5000/x/y:1',
      'a.b.example.com:5000/x/y',
      'a.b.example.com:5000/x',
      'a.b.example.com:5000',
      '*.b.example.com',
      '*.example.com',
      '*.com',
      '',
    ]);
    const policy = policyOf({
      default: [{ type: 'reject' }],
      transports: { docker: { 'r.io/x': accept, '*.io': accept } },
    });
    assert.equal(findPolicyRule(policy, parseReference('r.io/x/y:1')).place, 'transport "docker", scope "r.io/x"');
    assert.equal(findPolicyRule(policy, parseReference('r.io/xy:1')).place, 'transport "docker", scope "*.io"');
    assert.equal(findPolicyRule(policy, parseReference('r.com/x:1')).place, 'default');
  });
});

describe('parsePolicy', () => {
  const bad: readonly (readonly [string, RegExp])[] = [
    ['{}', /"default".*must not be empty/],
    ['{"default":[]}', /must not be empty/],
    ['{"default":[{"type":"maybe"}]}', /unknown policy requirement type "maybe"/],
    ['{"default":[{"type":"reject"}],"extra":1}', /unknown key "extra"/],
    ['{"default":[{"type":"reject","x":1}]}', /unknown key "x"/],
    ['{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}', /key "default" stands twice/],
    ['{"default":[{"type":"reject"}],"transports":{"docker":{"":[]}}}', /must not be empty/],
    ['{"default":', /parse policy/],
  ];
  for (const [text, want] of bad)
    it(`refuses ${text}`, () => assert.throws(() => parsePolicy(Buffer.from(text), 'p.json'), want));
});

describe('matchesIdentity', () => {
  const digest = `sha256:${'c'.repeat(64)}`;
  const cases: readonly (readonly [object | undefined, string, string, boolean])[] = [
    [undefined, 'r.io/a:1', 'r.io/a:1', true],
    [undefined, 'r.io/a:1', 'r.io/a:2', false],
    [undefined, `r.io/a@${digest}`, 'r.io/a:2', true],
    [undefined, `r.io/a@${digest}`, 'r.io/b:2', false],
    [undefined, 'r.io/a:1', 'r.io/a', false],
    [undefined, `r.io/a@${digest}`, 'r.io/a', false],
    [{ type: 'matchExact' }, 'r.io/a', 'r.io/a', false],
    [{ type: 'matchExact' }, `r.io/a@${digest}`, 'r.io/a:1', false],
    [{ type: 'matchRepository' }, 'r.io/a:1', 'r.io/a', true],
    [{ type: 'matchRepository' }, 'r.io/a:1', 'r.io/ab', false],
    [{ type: 'exactReference', dockerReference: 'v.io/x:1' }, 'r.io/a:1', 'v.io/x:1', true],
    [{ type: 'exactReference', dockerReference: 'v.io/x:1' }, 'r.io/a:1', 'v.io/x:2', false],
    [{ type: 'exactRepository', dockerRepository: 'v.io/x' }, 'r.io/a:1', 'v.io/x:2', true],
    [{ type: 'remapIdentity', prefix: 'm.io:5000/v', signedPrefix: 'v.io' }, 'm.io:5000/v/p/i:1', 'v.io/p/i:1', true],
    [
      { type: 'remapIdentity', prefix: 'm.io:5000/v', signedPrefix: 'v.io' },
      'm.io:5000/vv/p:1',
      'm.io:5000/vv/p:1',
      true,
    ],
    [
      { type: 'remapIdentity', prefix: 'm.io:5000/v', signedPrefix: 'v.io' },
      'm.io:5000/v/p:1',
      'm.io:5000/v/p:1',
      false,
    ],
  ];
  for (const [identity, intended, signed, want] of cases) {
    it(`${JSON.stringify(identity) ?? 'default'}: a signature for ${signed} is ${want ? '' : 'not '}one for ${intended}`, () => {
      const reader = identity && new JsonReader(parseStrictJson(Buffer.from(JSON.stringify(identity)), 'x'), 'x');
      assert.equal(matchesIdentity(readSignedIdentity(reader), parseReference(intended), parseReference(signed)), want);
    });
  }
  it('refuses unknown kinds and keys', () => {
    for (const value of [
      { type: 'x' },
      { type: 'matchExact', x: 1 },
      { type: 'exactReference', dockerReference: 'r.io/a' },
    ]) {
      const reader = new JsonReader(parseStrictJson(Buffer.from(JSON.stringify(value)), 'x'), 'x');
      assert.throws(() => readSignedIdentity(reader), { kind: 'invalid' });
    }
  });
});

describe('parseYamlMapping', () => {
  it('reads the example of containers-registries.d(5)', () => {
    const text = `# comment
docker:
    registry.database-supplier.com:
        lookaside: https://lookaside.database-supplier.com   # why
    registry.example.com/mydepartment/myproject:mybranch:
        lookaside: http://localhost:4242/lookaside
        lookaside-staging: "file:///home/useraccount/webroot/lookaside"
    localhost:5000:
        use-sigstore-attachments: true
default-docker:
    lookaside-staging: file:///mnt/company/common-lookaside-staging
`;
    const plain = (value: unknown): unknown =>
      value instanceof Map ? Object.fromEntries([...value].map(([key, item]) => [key, plain(item)])) : value;
    assert.deepEqual(plain(parseYamlMapping(text, 'f')), {
      docker: {
        'registry.database-supplier.com': { lookaside: 'https://lookaside.database-supplier.com' },
        'registry.example.com/mydepartment/myproject:mybranch': {
          lookaside: 'http://localhost:4242/lookaside',
          'lookaside-staging': 'file:///home/useraccount/webroot/lookaside',
        },
        'localhost:5000': { 'use-sigstore-attachments': 'true' },
      },
      'default-docker': { 'lookaside-staging': 'file:///mnt/company/common-lookaside-staging' },
    });
  });
  for (const text of [
    '- a',
    'a: [1]',
    'a: {b: c}',
    'a: |\n  x',
    'a: *x',
    'a: &x b',
    'a: 1\na: 2',
    'a:\n\tb: c',
    '  a: b',
    'a: b\n   c: d',
    'just text',
  ]) {
    it(`refuses ${JSON.stringify(text)}`, () => assert.throws(() => parseYamlMapping(text, 'f'), { kind: 'invalid' }));
  }
  it('never throws anything but a clear error', () => {
    const unit = fc.constantFrom('a', ':', ' ', '\n', '#', '"', "'", '-', '\t', '  ', 'b: c\n');
    fc.assert(
      fc.property(fc.string({ unit, maxLength: 40 }), (text) => {
        try {
          parseYamlMapping(text, 'f');
        } catch (error) {
          assert.equal((error as { kind?: string }).kind, 'invalid');
        }
      }),
    );
  });
});

describe('sigstoreSigned', () => {
  const trusted = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });

  const pem = (key: KeyObject) => Buffer.from(key.export({ type: 'spki', format: 'pem' })).toString('base64');

  async function openSigned(
    key: object = {
      keyData: pem(trusted.publicKey),
    },
  ): Promise<Bench> {
    const bench = await openBench({
      policy: { default: [{ type: 'sigstoreSigned', ...key, signedIdentity: { type: 'matchRepository' } }] },
    });
    await mkdir(join(bench.dir, 'registries.d'));
    await writeFile(
      join(bench.dir, 'registries.d/a.yaml'),
      `docker:\n  ${bench.registry.host}:\n    use-sigstore-attachments: true\n`,
    );
    return bench;
  }

  function attach(
    bench: Bench,
    digest: string,
    options: { key?: KeyObject; claim?: string; repository?: string; type?: string } = {},
  ): void {
    const { registry } = bench;
    const payload = Buffer.from(
      JSON.stringify({
        critical: {
          type: options.type ?? 'cosign container image signature',
          image: { 'docker-manifest-digest': options.claim ?? digest },
          identity: { 'docker-reference': `${registry.host}/${options.repository ?? 'a'}` },
        },
        optional: { creator: 'test' },
      }),
    );
    const signature = sign('sha256', payload, options.key ?? trusted.privateKey).toString('base64');
    registry.putManifest('a', `${digest.replace(':', '-')}.sig`, {
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, ...registry.putBlob(Buffer.from('{}')) },
      layers: [
        {
          mediaType: sigstoreMimeType,
          ...registry.putBlob(payload),
          annotations: { [signatureAnnotation]: signature },
        },
      ],
    });
  }

  it('accepts an image with a good signature', async () => {
    await using bench = await openSigned();
    const image = putImage(bench.registry, 'a', '1');
    attach(bench, image.manifestDigest);
    assert.equal(await bench.pull(`${bench.registry.host}/a:1`), image.id);
  });

  it('is checked again before use, with the signatures that were stored', async () => {
    await using bench = await openSigned();
    const { registry, images, dir } = bench;
    const image = putImage(registry, 'a', '1');
    attach(bench, image.manifestDigest);
    const name = `${registry.host}/a:1`;
    await bench.pull(name);
    const use = (userSpecifiedImage: string) =>
      images.verifyUse({ imageId: image.id, userSpecifiedImage, namespace: 'prod' });
    await use('');
    const signaturePolicyDir = join(dir, 'policies');
    await mkdir(signaturePolicyDir);
    await images.reload({ image: { ...defaultConfig().image, signaturePolicyDir } });
    await use(name);
    const rule = (key: KeyObject) => ({
      default: [{ type: 'sigstoreSigned', keyData: pem(key), signedIdentity: { type: 'matchRepository' } }],
    });
    await writeFile(join(signaturePolicyDir, 'prod.json'), JSON.stringify(rule(trusted.publicKey)));
    await use(name);
    assert.match(await failure(use('')), /user specified image not specified/);
    assert.match(await failure(use(`${registry.host}/b:1`)), /^SignatureValidationFailed: .*is not accepted/);
    await writeFile(join(signaturePolicyDir, 'prod.json'), JSON.stringify(rule(stranger.publicKey)));
    assert.match(await failure(use(name)), /^SignatureValidationFailed: .*cryptographic signature verification failed/);
    const { text } = await images.explainPolicy(name, 'prod');
    assert.match(text, /policy file: .*policies\/prod\.json .*\nrule: default .*\n  sigstoreSigned keyData=/);
  });

  it('refuses none, a stranger, another image, another repository and another kind, before a layer is read', async () => {
    await using bench = await openSigned();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    const pull = () => failure(bench.pull(`${registry.host}/a:1`));
    assert.match(
      await pull(),
      /^SignatureValidationFailed: .*Source image rejected: A signature was required, but no signature exists .*requirement "sigstoreSigned"/,
    );
    attach(bench, image.manifestDigest, { key: stranger.privateKey });
    assert.match(await pull(), /cryptographic signature verification failed/);
    attach(bench, image.manifestDigest, { claim: `sha256:${'d'.repeat(64)}` });
    assert.match(await pull(), /is for another image/);
    attach(bench, image.manifestDigest, { repository: 'b' });
    assert.match(await pull(), /Signature for identity ".*\/b" is not accepted/);
    attach(bench, image.manifestDigest, { type: 'atomic container signature' });
    assert.match(await pull(), /critical\.type: expected/);
    assert.ok(image.layerDigests.every((digest) => registry.requests.every(({ line }) => !line.includes(digest))));
  });

  it('reads neither more than 64 attached signatures nor more than 16 MiB of them', async () => {
    await using bench = await openSigned();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    const config = { mediaType: mediaTypes.ociConfig, ...registry.putBlob(Buffer.from('{}')) };
    const layer = (size: number) => ({ mediaType: sigstoreMimeType, digest: `sha256:${'a'.repeat(64)}`, size });
    for (const [layers, want] of [
      [Array.from({ length: 65 }, () => layer(10)), /more than 64/],
      [Array.from({ length: 5 }, () => layer(4 << 20)), /more than 16777216 bytes/],
    ] as const) {
      const manifest = { schemaVersion: 2, mediaType: mediaTypes.ociManifest, config, layers };
      registry.putManifest('a', `${image.manifestDigest.replace(':', '-')}.sig`, manifest);
      assert.match(await failure(bench.pull(`${registry.host}/a:1`)), want);
    }
    assert.ok(registry.requests.every(({ line }) => !line.includes('aaaa')));
  });

  it('does not take a registry that fails for one without signatures', async () => {
    await using bench = await openSigned();
    const { registry } = bench;
    putImage(registry, 'a', '1');
    registry.handle = (request, response) => {
      if (request.url?.endsWith('.sig') !== true) return false;
      sendError(response, 403, 'DENIED', 'no');
      return true;
    };
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /SignatureValidationFailed: .*403 forbidden/);
  });
});

describe('verifyUse', () => {
  it('knows a stored image by the digest of its own manifest, not by that of the list it was pulled by', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const image = putImage(registry, 'a', 'entry');
    const manifests = [{ mediaType: mediaTypes.ociManifest, digest: image.manifestDigest, size: 1 }];
    registry.putManifest(
      'a',
      '1',
      { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests },
      mediaTypes.ociIndex,
    );
    const id = await bench.pull(`${registry.host}/a:1`);
    assert.equal((await bench.store.images.find(id))?.digests.length, 2);
    assert.deepEqual((await storedEvidence(bench.store.images, id))?.digests, [image.manifestDigest]);
  });

  it('refuses every image when the configured policy is missing, but not when only the one of the namespace is', async () => {
    await using bench = await openBench();
    const { registry, images, dir } = bench;
    const image = putImage(registry, 'a', '1');
    const name = `${registry.host}/a:1`;
    await bench.pull(name);
    const use = () => images.verifyUse({ imageId: image.id, userSpecifiedImage: name, namespace: 'prod' });
    const signaturePolicy = join(dir, 'own.json');
    const options = { ...defaultConfig().image, signaturePolicyDir: dir };
    await images.reload({ image: { ...options, signaturePolicy } });
    assert.match(await failure(use()), /^read signature policy: no such file: ".*prod\.json", ".*own\.json"$/);
    await writeFile(signaturePolicy, JSON.stringify({ default: accept }));
    await use();
    await rm(signaturePolicy);
    await images.reload({ image: options });
    await use();
  });

  it('says at start and at each pull that a policy is needed, and what the least one is', async () => {
    await using bench = await openBench();
    const { registry, dir } = bench;
    putImage(registry, 'a', '1');
    const none = join(dir, 'none.json');
    const image = { signaturePolicy: '', signaturePolicyDir: dir };
    const text = (path: string) =>
      `read signature policy: no such file: "${path}" (one of them is needed; {"default":[{"type":"insecureAcceptAnything"}]} accepts every image)`;
    assert.deepEqual(await policyProblems(image, [none]), [
      `no image can be pulled with this signature policy: ${text(none)}`,
    ]);
    await writeFile(none, JSON.stringify({ default: accept }));
    assert.deepEqual(await policyProblems(image, [none]), []);
    await rm(bench.policyFile);
    assert.ok((await failure(bench.pull(`${registry.host}/a:1`))).endsWith(text(bench.policyFile)));
  });

  it('asks about the registry that an image is from, not about others that its short name may mean', async () => {
    await using bench = await openBench({
      toml: (host) =>
        `unqualified-search-registries = ["${host}", "quay.io"]\nshort-name-mode = "disabled"\n[[registry]]\nlocation = "${host}"\ninsecure = true\n`,
    });
    const { registry, images, dir } = bench;
    const image = putImage(registry, 'a', 'latest');
    await bench.pull(`${registry.host}/a:latest`);
    const anything = [{ type: 'insecureAcceptAnything' }];
    const policy = { default: [{ type: 'reject' }], transports: { docker: { 'quay.io': anything } } };
    await writeFile(join(dir, 'prod.json'), JSON.stringify(policy));
    await images.reload({
      image: { ...defaultConfig().image, signaturePolicyDir: dir, shortNameMode: 'disabled' },
    });
    const use = images.verifyUse({ imageId: image.id, userSpecifiedImage: 'a', namespace: 'prod' });
    assert.match(await failure(use), /^SignatureValidationFailed: .*is rejected by policy/);
  });
});
