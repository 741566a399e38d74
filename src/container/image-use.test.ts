import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CrioError } from '../base/errors.ts';
import type { Image } from '../image/images.ts';
import type { ContainerMount } from './config.ts';
import type { ImageUse } from './context.ts';
import { containerConfig, fakeImage, FakeHost, podConfig } from './fakes.ts';

const podId = 'a'.repeat(64);

const imageMount: ContainerMount = {
  containerPath: '/models',
  hostPath: '',
  readonly: true,
  selinuxRelabel: false,
  propagation: 0,
  uidMappings: [],
  gidMappings: [],
  recursiveReadOnly: false,
  image: 'registry.example/models:1',
  userSpecifiedImage: 'models:1',
  imageSubPath: '',
  mountOptions: [],
};

test('createContainer asks the policy about its image and its image volumes, under the names that the user wrote', async () => {
  using host = new FakeHost();
  const uses: ImageUse[] = [];
  const containers = host.startDaemon({
    async verifyImage(use) {
      uses.push(use);
    },
  });
  const config = containerConfig({ userSpecifiedImage: 'busybox', mounts: [imageMount] });
  await containers.create(host.call(), { podId, config, podConfig });
  assert.deepEqual(uses, [
    { imageId: fakeImage.id, userSpecifiedImage: 'busybox', namespace: 'ns' },
    { imageId: fakeImage.id, userSpecifiedImage: 'models:1', namespace: 'ns' },
  ]);
});

test('what the policy was asked about is mounted, also when its name is another image’s by then', async () => {
  using host = new FakeHost();
  let current = { ...fakeImage, id: 'd'.repeat(64) };
  const containers = host.startDaemon({
    images: {
      find: async (name) => (name === imageMount.image ? current : fakeImage),
      findArtifact: async () => undefined,
    },
    async verifyImage({ imageId }) {
      if (imageId === current.id) current = { ...fakeImage, id: 'e'.repeat(64) };
    },
  });
  const config = containerConfig({ mounts: [imageMount] });
  const id = await containers.create(host.call(), { podId, config, podConfig });
  assert.deepEqual(
    host.require(id).mounts.map(({ imageId }) => imageId),
    ['d'.repeat(64)],
  );
});

test('createContainer asks the policy about an artifact that it mounts, also where an image has its name', async () => {
  using host = new FakeHost();
  const artifact: Image = { ...fakeImage, id: 'c'.repeat(64), artifact: { artifactType: 'x', blobs: [] } };
  const asked: string[] = [];
  const containers = host.startDaemon({
    images: { find: async () => fakeImage, findArtifact: async () => artifact },
    async verifyImage({ imageId }) {
      asked.push(imageId);
      if (imageId === artifact.id) throw new CrioError('unknown', 'SignatureValidationFailed: no');
    },
  });
  const config = containerConfig({ userSpecifiedImage: 'busybox', mounts: [imageMount] });
  const create = containers.create(host.call(), { podId, config, podConfig });
  await assert.rejects(create, /^CrioError: SignatureValidationFailed: no$/);
  assert.deepEqual(asked, [fakeImage.id, artifact.id]);
  assert.deepEqual(containers.list(), []);
});

test('createContainer makes nothing of an image that the policy refuses', async () => {
  using host = new FakeHost();
  const containers = host.startDaemon({
    verifyImage: () => Promise.reject(new CrioError('unknown', 'SignatureValidationFailed: no')),
  });
  const create = containers.create(host.call(), { podId, config: containerConfig({}), podConfig });
  await assert.rejects(create, /^CrioError: SignatureValidationFailed: no$/);
  assert.deepEqual(containers.list(), []);
  assert.equal(host.records.size, 1);
});

test('createContainer refuses an OCI artifact', async () => {
  using host = new FakeHost();
  const artifact: Image = { ...fakeImage, artifact: { artifactType: 'application/x-model', blobs: [] } };
  const containers = host.startDaemon({ images: { find: async () => artifact, findArtifact: async () => artifact } });
  const create = containers.create(host.call(), { podId, config: containerConfig({}), podConfig });
  await assert.rejects(create, /is an OCI artifact of type "application\/x-model": it can be mounted, not run/);
});
