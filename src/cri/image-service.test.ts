import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { Call } from '../base/call.ts';
import { silentLog } from '../base/log.ts';
import type { Images } from '../image/images.ts';
import { ImageFsInfoRequestSchema } from './gen/api_pb.ts';
import { createImageService } from './image-service.ts';

const never = () => Promise.reject(new Error('not of this test'));

test('ImageFsInfo counts images of the graph root for the disk of the containers', async () => {
  const images: Images = {
    ...{ list: never, find: never, pull: never, remove: never },
    usage: async () => ({
      ...{ mountPoint: '/fast/overlay-images', usedBytes: 1000, inodesUsed: 10, timestampNs: 5n },
      inGraphRoot: { usedBytes: 200, inodesUsed: 2 },
    }),
  };
  const mountPoints = { images: '/fast/overlay-images', containers: '/root/overlay-containers' };
  const written = { usedBytes: 30, inodesUsed: 3 };
  const call = new Call({ name: 'ImageFsInfo', id: '1', log: silentLog });
  const entry = (mountpoint: string, bytes: bigint, inodes: bigint) => ({
    timestamp: 5n,
    fsId: { mountpoint },
    usedBytes: { value: bytes },
    inodesUsed: { value: inodes },
  });
  const service = createImageService({ images, mountPoints, containerUsage: () => written });
  assert.deepEqual(await service.imageFsInfo?.(call, create(ImageFsInfoRequestSchema)), {
    imageFilesystems: [entry(mountPoints.images, 1000n, 10n)],
    containerFilesystems: [entry(mountPoints.containers, 230n, 5n)],
  });
});
