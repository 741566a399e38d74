import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { digestOf } from '../../src/image/digest.ts';
import type { CriClient } from '../client/client.ts';
import { crictlFor } from '../client/crictl.ts';
import { containerConfig, podConfig, removePod, runPod, waitFor } from '../client/pods.ts';
import { buildTools } from '../conformance/build.ts';
import { buildImages } from '../fixtures/build.ts';
import { run } from '../fixtures/process.ts';
import { pushBlob, pushManifest, startRegistry } from '../fixtures/registry.ts';
import type { Registry } from '../fixtures/registry.ts';
import {
  attachSignatures,
  authorityExtensions,
  sigstoreAnnotations,
  SigstoreMaker,
  signerExtensions,
  sigstorePayload,
} from '../fixtures/sigstore.ts';
import { daemonFile } from '../run/daemon.ts';
import { failureOf, useDaemon } from './environment.ts';

/** gpg, skopeo and openssl sign and encrypt, Debian's docker-registry keeps it, and the daemon decides about it. */
const folder = '/srv/trust';
// After its start: what follows does not let the event loop run.
const node = useDaemon({}, prepare);
const { crictl } = buildTools((await buildImages('test')).digests);
const make = new SigstoreMaker(`${folder}/sigstore`);
/** The agent's socket has a short path only. */
const gnupg = mkdtempSync('/tmp/gpg-');
const env = { ...process.env, GNUPGHOME: gnupg };
const gpg = (...args: readonly string[]) => run('gpg', ['--batch', '--quiet', ...args], { env });
const copy = ['copy', '--insecure-policy', '--src-tls-verify=false', '--dest-tls-verify=false', '--quiet'];
const email = 'builder@example.com';
const oidcIssuer = 'https://login.example.com';

let registry: Registry;
let started: Registry | undefined;
let digest = '';
/** `127.0.0.1:PORT/team/<name>:1` */
const image = (name: string) => `${registry.address}/team/${name}:1`;

async function prepare(): Promise<void> {
  const small = await buildImages('small');
  digest = small.digests['docker.io/library/busybox:latest'] ?? '';
  cpSync(small.storage, `${folder}/registry`, { recursive: true });
  registry = started = await startRegistry({ storage: `${folder}/registry` });
  write(
    '/etc/containers/registries.conf.d/trust.conf',
    `[[registry]]\nlocation = "${registry.address}"\ninsecure = true\n`,
  );
  write(
    '/etc/containers/registries.d/trust.yaml',
    `docker:\n  ${registry.address}:\n    lookaside: file://${folder}/lookaside\n    use-sigstore-attachments: true\n`,
  );
  makeSimpleSignatures();
  await makeSigstoreSignatures();
  process.kill(node.daemon.pid(), 'SIGHUP');
  await reloaded(1);
}
after(async () => {
  await started?.[Symbol.asyncDispose]();
  run('gpgconf', ['--kill', 'all'], { env });
  rmSync(gnupg, { recursive: true, force: true });
});

function write(path: string, text: string): void {
  mkdirSync(path.replace(/\/[^/]*$/, ''), { recursive: true });
  writeFileSync(path, text);
}

const source = () => `docker://${registry.address}/docker.io/library/busybox:latest`;

/** `plain` has no signature, `gpg` one by skopeo. */
function makeSimpleSignatures(): void {
  for (const who of ['team', 'stranger']) {
    gpg('--passphrase', '', '--quick-generate-key', `${who}@example.com`, 'ed25519', 'sign');
    gpg('--output', `${folder}/${who}.gpg`, '--export', `${who}@example.com`);
  }
  const places = ['--registries.d', '/etc/containers/registries.d'];
  run('skopeo', [...copy, source(), `docker://${image('plain')}`]);
  run('skopeo', [...places, ...copy, '--sign-by', 'team@example.com', source(), `docker://${image('gpg')}`], { env });
}

/** `key` is signed by a key, `fulcio` by a certificate that lived ten minutes, an hour ago. */
async function makeSigstoreSignatures(): Promise<void> {
  const [hour, minute] = [3600_000, 60_000];
  const at = new Date(Date.now() - hour);
  for (const key of ['signer', 'rekor']) make.key(key);
  make.certificate('root', { extensions: authorityExtensions, from: new Date(Date.now() - 9 * hour) });
  make.certificate('leaf', {
    extensions: signerExtensions(email, oidcIssuer),
    issuer: 'root',
    from: new Date(at.getTime() - minute),
    until: new Date(at.getTime() + 9 * minute),
  });
  for (const [name, key] of [
    ['key', 'signer'],
    ['fulcio', 'leaf'],
  ] as const) {
    run('skopeo', [...copy, source(), `docker://${image(name)}`]);
    const payload = sigstorePayload(image(name).replace(/:1$/, ''), digest);
    const signature = make.sign(key, payload);
    const annotations = { [sigstoreAnnotations.signature]: signature.toString('base64') };
    const certificate = make.read('leaf.crt');
    const bundle = make.rekorBundle('rekor', { signer: certificate, signature, payload, at });
    const more = { [sigstoreAnnotations.certificate]: certificate, [sigstoreAnnotations.bundle]: bundle };
    await attachSignatures(registry, `team/${name}`, digest, [
      { payload, annotations: name === 'key' ? annotations : { ...annotations, ...more } },
    ]);
  }
}

/** An OCI artifact of one file, with a sigstore signature by this key. */
async function pushArtifact(name: string, key?: string): Promise<void> {
  const repository = `team/${name}`;
  const [config, blob] = [Buffer.from('{}'), Buffer.from(`content of ${name}`)];
  const describeBlob = (mediaType: string, content: Buffer) => ({
    mediaType,
    digest: digestOf(content),
    size: content.length,
  });
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const content = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType,
      artifactType: 'application/x.test',
      config: describeBlob('application/vnd.oci.empty.v1+json', config),
      layers: [{ ...describeBlob('text/plain', blob), annotations: { 'org.opencontainers.image.title': name } }],
    }),
  );
  for (const each of [config, blob]) await pushBlob(registry, repository, each);
  await pushManifest(registry, repository, { reference: '1', mediaType, content });
  if (key === undefined) return;
  const payload = sigstorePayload(`${registry.address}/${repository}`, digestOf(content));
  const annotations = { [sigstoreAnnotations.signature]: make.sign(key, payload).toString('base64') };
  await attachSignatures(registry, repository, digestOf(content), [{ payload, annotations }]);
}

/** The policy of a namespace: what images of the registry need. */
function setPolicy(namespace: string, ...requirements: readonly object[]): void {
  const docker = { [registry.address]: requirements };
  write(
    `/etc/crio/policies/${namespace}.json`,
    JSON.stringify({ default: [{ type: 'reject' }], transports: { docker } }),
  );
}

const accept = { type: 'insecureAcceptAnything' };
const simple = (who = 'team') => ({ type: 'signedBy', keyType: 'GPGKeys', keyPath: `${folder}/${who}.gpg` });
const sigstore = (rule: object) => ({ type: 'sigstoreSigned', signedIdentity: { type: 'matchRepository' }, ...rule });
const fulcio = (subjectEmail = email) =>
  sigstore({
    fulcio: { caPath: make.path('root.crt'), oidcIssuer, subjectEmail },
    rekorPublicKeyPath: make.path('rekor.pub'),
  });

async function pull(client: CriClient, name: string, namespace: string): Promise<string> {
  const sandboxConfig = podConfig({ namespace });
  return (await client.image.pullImage({ image: { image: image(name) }, sandboxConfig })).imageRef;
}

async function refused(name: string, namespace: string): Promise<string> {
  return (await failureOf(pull(node.client, name, namespace))).details;
}

/** Waits until the log says so often that the registries were read again. */
async function reloaded(times: number): Promise<void> {
  await waitFor('the reload', 10_000, () =>
    node.daemon.log().split('Applied new registry configuration').length > times ? true : undefined,
  );
}

describe('the policy of a namespace', () => {
  test('takes what gpg signed with skopeo, and refuses others with the rule', async () => {
    setPolicy('gpg', simple());
    await pull(node.client, 'gpg', 'gpg');
    const plain = await refused('plain', 'gpg');
    assert.match(plain, /^SignatureValidationFailed: .*A signature was required, but no signature exists/);
    assert.ok(plain.includes(`"/etc/crio/policies/gpg.json", transport "docker", scope "${registry.address}"`), plain);
    assert.match(plain, /requirement "signedBy"/);
    setPolicy('gpg', simple('stranger'));
    assert.match(await refused('gpg', 'gpg'), /^SignatureValidationFailed: .*signed by key .* which is not accepted/);
    setPolicy('gpg', simple(), sigstore({ keyPath: make.path('signer.pub') }));
    assert.match(
      await refused('gpg', 'gpg'),
      /no signature exists \(1 non-sigstore signatures\).*requirement "sigstoreSigned"/,
    );
  });

  test('takes what openssl signed in the formats of sigstore: a key, and a Fulcio certificate with its log entry', async () => {
    setPolicy('sigstore', sigstore({ keyPath: make.path('signer.pub') }));
    await pull(node.client, 'key', 'sigstore');
    assert.match(await refused('fulcio', 'sigstore'), /^SignatureValidationFailed: .*made by none of the keys/);
    setPolicy('sigstore', fulcio());
    await pull(node.client, 'fulcio', 'sigstore');
    assert.match(
      await refused('key', 'sigstore'),
      /^SignatureValidationFailed: .*missing dev\.sigstore\.cosign\/bundle/,
    );
    setPolicy('sigstore', fulcio('somebody@example.com'));
    assert.match(
      await refused('fulcio', 'sigstore'),
      /^SignatureValidationFailed: .*Required email "somebody@example\.com"/,
    );
  });

  test('is what people see with crictl', async () => {
    setPolicy('crictl', simple());
    const { namespace, ...rest } = { namespace: 'crictl', name: 'p', uid: 'u' };
    write(`${folder}/pod.json`, JSON.stringify({ metadata: { namespace, ...rest } }));
    const crictlPull = (name: string) =>
      crictlFor(crictl, () => node.daemon.socket).run('', 'pull', '--pod-config', `${folder}/pod.json`, image(name));
    assert.equal((await crictlPull('gpg'))[0], 0);
    const [code, , stderr] = await crictlPull('plain');
    assert.equal(code, 1);
    assert.match(stderr, /SignatureValidationFailed: .*no signature exists.*requirement.*signedBy/);
  });

  test('is checked again when a container is created from an image that another namespace pulled', async () => {
    setPolicy('open', accept);
    setPolicy('strict', simple());
    for (const name of ['plain', 'gpg']) await pull(node.client, name, 'open');
    // The pause image is the node's: the policy of the namespace, which rejects it, does not count.
    await node.client.image.removeImage({ image: { image: 'registry.k8s.io/pause:3.10.1' } });
    const strict = await runPod(node.client, { namespace: 'strict' });
    const open = await runPod(node.client, { namespace: 'open' });
    const create = (pod: typeof open, name: string) => {
      const config = containerConfig({ name, image: image(name), command: ['sleep', '1000'] });
      return node.client.runtime.createContainer({ podSandboxId: pod.id, config, sandboxConfig: pod.config });
    };
    const { details } = await failureOf(create(strict, 'plain'));
    // They are one image with two names, and its only signature is for the other one.
    assert.match(details, /SignatureValidationFailed: .*Signature for identity ".*team\/gpg:1" is not accepted/);
    assert.ok(
      details.includes(`"/etc/crio/policies/strict.json", transport "docker", scope "${registry.address}"`),
      details,
    );
    await create(open, 'plain');
    // Its signature was kept, though the namespace that pulled it asked for none.
    await create(strict, 'gpg');
    setPolicy('strict', simple('stranger'));
    const config = containerConfig({ name: 'again', image: image('gpg') });
    const again = node.client.runtime.createContainer({
      podSandboxId: strict.id,
      config,
      sandboxConfig: strict.config,
    });
    assert.match((await failureOf(again)).details, /SignatureValidationFailed: .*which is not accepted/);
    for (const { id } of [strict, open]) await removePod(node.client, id);
  });

  test('is checked again when a container mounts an artifact that another namespace pulled', async () => {
    setPolicy('open', accept);
    setPolicy('mounts', sigstore({ keyPath: make.path('signer.pub') }));
    await pushArtifact('model', 'signer');
    await pushArtifact('files');
    for (const name of ['key', 'model', 'files']) await pull(node.client, name, 'open');
    const strict = await runPod(node.client, { namespace: 'mounts' });
    const open = await runPod(node.client, { namespace: 'open' });
    const create = (pod: typeof open, name: string) => {
      const mounted = { image: image(name), userSpecifiedImage: image(name) };
      const mounts = [{ containerPath: '/data', image: mounted, readonly: true }];
      const command = ['sleep', '1000'];
      const config = containerConfig({ name, image: image('key'), command, config: { mounts } });
      return node.client.runtime.createContainer({ podSandboxId: pod.id, config, sandboxConfig: pod.config });
    };
    const { details } = await failureOf(create(strict, 'files'));
    assert.match(
      details,
      /SignatureValidationFailed: .*no signature exists .*\/team\/files:1, "\/etc\/crio\/policies\/mounts\.json"/,
    );
    await create(open, 'files');
    // Its signature was kept, though the namespace that pulled it asked for none.
    const { containerId } = await create(strict, 'model');
    await node.client.runtime.startContainer({ containerId });
    const cmd = ['cat', '/data/model'];
    const { stdout } = await node.client.runtime.execSync({ containerId, cmd, timeout: 20n });
    assert.equal(Buffer.from(stdout).toString(), 'content of model');
    for (const { id } of [strict, open]) await removePod(node.client, id);
  });
});

describe('a reload', () => {
  test('takes over the policy, the places of signatures and blocked registries', async () => {
    const file = '/etc/containers/policy.json';
    const before = readFileSync(file, 'utf8');
    await pull(node.client, 'plain', 'other');
    write(file, JSON.stringify({ default: [{ type: 'reject' }] }));
    assert.match(
      await refused('plain', 'other'),
      /^SignatureValidationFailed: .*is rejected by policy\. \("\/etc\/containers\/policy\.json", default\)/,
    );
    const seen = node.daemon.log().split('Applied new registry configuration').length - 1;
    const conf = '/etc/containers/registries.conf.d/trust.conf';
    write(conf, `[[registry]]\nlocation = "${registry.address}"\ninsecure = true\nblocked = true\n`);
    write(file, before);
    process.kill(node.daemon.pid(), 'SIGHUP');
    await reloaded(seen + 1);
    assert.match(await refused('plain', 'other'), /registry 127\.0\.0\.1:\d+ is blocked in /);
    write(conf, `[[registry]]\nlocation = "${registry.address}"\ninsecure = true\n`);
    process.kill(node.daemon.pid(), 'SIGHUP');
    await reloaded(seen + 2);
    await pull(node.client, 'plain', 'other');
  });
});

describe('crio policy explain', () => {
  const explain = (...args: readonly string[]) => {
    const { stdout, stderr, status } = spawnSync(daemonFile, ['policy', 'explain', ...args], { encoding: 'utf8' });
    return { stdout, stderr, status };
  };

  test('asks the daemon, and says why the image would be refused', () => {
    setPolicy('gpg', simple());
    const rule = explain(image('plain'), '--namespace', 'gpg');
    assert.equal(rule.status, 0, rule.stderr);
    assert.match(rule.stdout, /^answered by: the daemon on \/var\/run\/crio\/crio\.sock\n/);
    assert.match(rule.stdout, /\npolicy file: \/etc\/crio\/policies\/gpg\.json /);
    assert.match(rule.stdout, /\nresult: accepted when it meets every requirement above\n$/);
    const plain = explain(image('plain'), '--namespace', 'gpg', '--check');
    assert.equal(plain.status, 1);
    assert.match(
      plain.stdout,
      /\nsignatures found: 0\nresult: refused: .*no signature exists.*requirement "signedBy"\)\n$/,
    );
    const signed = explain(image('gpg'), '--namespace', 'gpg', '--check');
    assert.deepEqual([signed.status, signed.stdout.endsWith('\nsignatures found: 1\nresult: accepted\n')], [0, true]);
  });

  test('reads other files when its flags name them', () => {
    write(`${folder}/reject.json`, JSON.stringify({ default: [{ type: 'reject' }] }));
    const flags = ['--signature-policy', `${folder}/reject.json`, 'policy', 'explain', image('gpg')];
    const { stdout } = spawnSync(daemonFile, flags, { encoding: 'utf8' });
    assert.match(stdout, /^answered by: the files of this machine, as --signature-policy was given\n/);
    assert.match(stdout, /\nresult: refused: whatever it is, by the requirement "reject"\n$/);
  });
});

describe('encrypted layers', () => {
  const keys = '/etc/crio/keys';

  test('are opened with a key in decryption_keys_path, read at each pull', async () => {
    mkdirSync(keys, { recursive: true });
    for (const who of ['owner', 'stranger']) {
      run('openssl', ['genpkey', '-quiet', '-algorithm', 'RSA', '-out', `${folder}/${who}.pem`]);
      run('openssl', ['pkey', '-in', `${folder}/${who}.pem`, '-pubout', '-out', `${folder}/${who}.pub`]);
    }
    const recipient = ['--encryption-key', `jwe:${folder}/owner.pub`];
    run('skopeo', [...copy, '--format', 'oci', ...recipient, source(), `docker://${image('secret')}`]);
    assert.match(
      await refused('secret', 'other'),
      /is encrypted: missing private key needed for decryption \(0 tried\)/,
    );
    cpSync(`${folder}/stranger.pem`, `${keys}/stranger.pem`);
    assert.match(await refused('secret', 'other'), /missing private key needed for decryption \(1 tried\)/);
    cpSync(`${folder}/owner.pem`, `${keys}/owner.pem`);
    const pod = await runPod(node.client);
    await pull(node.client, 'secret', 'other');
    const config = containerConfig({ image: image('secret'), command: ['sleep', '1000'] });
    const request = { podSandboxId: pod.id, config, sandboxConfig: pod.config };
    const { containerId } = await node.client.runtime.createContainer(request);
    await node.client.runtime.startContainer({ containerId });
    const cmd = ['echo', 'opened'];
    const { stdout } = await node.client.runtime.execSync({ containerId, cmd, timeout: 20n });
    assert.equal(Buffer.from(stdout).toString(), 'opened\n');
    await removePod(node.client, pod.id);
    // The layers are there now, but they are still only for who can open them.
    rmSync(`${keys}/owner.pem`);
    assert.match(await refused('secret', 'other'), /missing private key needed for decryption \(1 tried\)/);
  });

  test('are opened with the keys of another folder after a reload of decryption_keys_path', async () => {
    mkdirSync(`${folder}/more-keys`, { recursive: true });
    cpSync(`${folder}/owner.pem`, `${folder}/more-keys/owner.pem`);
    assert.match(await refused('secret', 'other'), /missing private key/);
    const seen = node.daemon.log().split('Applied new registry configuration').length - 1;
    write('/etc/crio/crio.conf.d/90-keys.conf', `[crio.runtime]\ndecryption_keys_path = "${folder}/more-keys"\n`);
    process.kill(node.daemon.pid(), 'SIGHUP');
    await reloaded(seen + 1);
    await pull(node.client, 'secret', 'other');
  });
});
