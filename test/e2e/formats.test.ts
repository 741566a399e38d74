import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { SecurityProfile_ProfileType as ProfileType } from '../../src/cri/gen/api_pb.ts';
import { containerStatus, createContainer, execSync, removePod, runContainer, runPod } from '../client/pods.ts';
import { failureOf, handlers, useDaemon } from './environment.ts';
import { putArtifact, startMadeRegistry } from './made-images.ts';

const registry = await startMadeRegistry();
after(() => registry[Symbol.asyncDispose]());

const withProfiles = `
[crio.runtime.runtimes.profiles]
runtime_path = "/usr/bin/crun"
runtime_root = "/run/crun"
monitor_path = "/usr/bin/conmon"
allowed_annotations = ["seccomp-profile.crio.io"]
`;
const node = useDaemon({ config: withProfiles });

describe('OCI artifacts', () => {
  const files = {
    'model.bin': 'weights',
    'conf/a.json': '{}',
    'conf/deep/b.json': '[]',
    '../../evil': 'E',
    '/abs': 'F',
  };

  for (const handler of handlers) {
    test(`are mounted read-only, file by file, for any user, with ${handler}`, async () => {
      const { client } = node;
      const image = putArtifact(registry, handler, files);
      const { imageRef } = await client.image.pullImage({ image: { image } });
      const pod = await runPod(client, { handler });
      const id = await runContainer(client, pod, {
        command: ['sleep', '1000'],
        config: {
          mounts: [
            { containerPath: '/models', image: { image }, readonly: true },
            { containerPath: '/conf', image: { image }, imageSubPath: 'conf', readonly: true },
          ],
          linux: { securityContext: { runAsUser: { value: 1234n } } },
        },
      });
      const sh = async (script: string) => (await execSync(client, id, ['sh', '-c', script])).stdout;
      assert.equal(
        await sh('cd /models; find . /conf -type f | sort; cat model.bin conf/a.json /conf/deep/b.json'),
        './conf/a.json\n./conf/deep/b.json\n./model.bin\n/conf/a.json\n/conf/deep/b.json\nweights{}[]',
      );
      assert.equal(await sh('echo x > /models/model.bin || echo refused; ls /evil /abs /models/abs'), 'refused\n');
      const { mounts } = await containerStatus(client, id);
      assert.deepEqual(
        mounts.map(({ containerPath, readonly, image: source }) => [containerPath, readonly, source?.image]),
        [
          '/models/model.bin',
          '/models/conf/a.json',
          '/models/conf/deep/b.json',
          '/conf/a.json',
          '/conf/deep/b.json',
        ].map((path) => [path, true, imageRef]),
      );
      assert.match((await failureOf(client.image.removeImage({ image: { image } }))).details, /is in use by/);
      await removePod(client, pod.id);
      await client.image.removeImage({ image: { image } });
      assert.equal((await client.image.imageStatus({ image: { image } })).image, undefined);
    });
  }

  test('are listed like images, and cannot be run', async () => {
    const { client } = node;
    const image = putArtifact(registry, 'listed', { a: '12345' });
    const { imageRef } = await client.image.pullImage({ image: { image } });
    const entry = (await client.image.listImages({})).images.find(({ id }) => id === imageRef);
    assert.deepEqual([entry?.repoTags, entry?.size, entry?.pinned], [[image], 7n, false]);
    const pod = await runPod(client);
    assert.match((await failureOf(createContainer(client, pod, { image }))).details, /it can be mounted, not run/);
    await removePod(client, pod.id);
  });

  test('that lack the sub path, or blobs on disk, are errors that kubelet shows', async () => {
    const { client } = node;
    const image = putArtifact(registry, 'paths', { 'conf/a': 'A' });
    await client.image.pullImage({ image: { image } });
    const pod = await runPod(client);
    const mount = (imageSubPath: string) =>
      createContainer(client, pod, { config: { mounts: [{ containerPath: '/x', image: { image }, imageSubPath }] } });
    assert.match(
      (await failureOf(mount('../conf'))).details,
      /ImageVolumeMountFailed: sub path "\.\.\/conf" does not exist in OCI artifact volume/,
    );
    rmSync(`/var/lib/containers/storage/artifacts/blobs/sha256/${createHash('sha256').update('A').digest('hex')}`);
    assert.match((await failureOf(mount('conf'))).details, /ImageVolumeMountFailed: artifact blob .* is missing: pull/);
    await client.image.pullImage({ image: { image } });
    await mount('conf');
    await removePod(client, pod.id);
  });
});

describe('seccomp profiles in OCI artifacts', () => {
  const noFolders = JSON.stringify({
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 13 }],
  });
  const makeFolder = async (handler: string, annotations: Record<string, string>): Promise<string> => {
    const { client } = node;
    const pod = await runPod(client, { handler, config: { annotations } });
    const id = await runContainer(client, pod, {
      command: ['sleep', '1000'],
      config: { linux: { securityContext: { seccomp: { profileType: ProfileType.Unconfined } } } },
    });
    const { stdout, stderr } = await execSync(client, id, ['mkdir', '/tmp/x']);
    await removePod(client, pod.id);
    return stdout + stderr;
  };

  test('apply to the containers that the annotation names, where the handler allows it', async () => {
    const image = putArtifact(registry, 'profile', { 'seccomp.json': noFolders });
    assert.match(await makeFolder('profiles', { 'seccomp-profile.crio.io/main': image }), /Permission denied/);
    assert.match(await makeFolder('profiles', { 'seccomp-profile.crio.io/POD': image }), /Permission denied/);
    assert.equal(await makeFolder('profiles', { 'seccomp-profile.crio.io/other': image }), '');
    assert.equal(await makeFolder('crun', { 'seccomp-profile.crio.io/main': image }), '');
  });

  test('that cannot be pulled or read fail the container', async () => {
    const image = putArtifact(registry, 'broken', { 'seccomp.json': '{"defaultAction":' });
    const missing = `${registry.host}/artifact:missing`;
    for (const reference of [image, missing]) {
      const { client } = node;
      const pod = await runPod(client, {
        handler: 'profiles',
        config: { annotations: { 'seccomp-profile.crio.io/POD': reference } },
      });
      const create = createContainer(client, pod, {
        config: { linux: { securityContext: { seccomp: { profileType: ProfileType.Unconfined } } } },
      });
      assert.match(
        (await failureOf(create)).details,
        /load seccomp profile of annotation seccomp-profile\.crio\.io\/POD from OCI artifact/,
      );
      await removePod(client, pod.id);
    }
  });
});
