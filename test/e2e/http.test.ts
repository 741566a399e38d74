import assert from 'node:assert/strict';
import { request } from 'node:http';
import { statSync } from 'node:fs';
import { test } from 'node:test';
import { CgroupDriver } from '../../src/cri/gen/api_pb.ts';
import { useDaemon } from './environment.ts';

const node = useDaemon();

test('HTTP on the gRPC socket answers /info and /config', async () => {
  const { daemon } = node;
  const info = await get(daemon.socket, '/info');
  assert.equal(info.status, 200);
  assert.deepEqual(JSON.parse(info.body), {
    storage_driver: 'overlay',
    storage_image: '',
    storage_root: '/var/lib/containers/storage',
    cgroup_driver: 'cgroupfs',
    default_id_mappings: {
      uids: [{ container_id: 0, host_id: 0, size: 4294967295 }],
      gids: [{ container_id: 0, host_id: 0, size: 4294967295 }],
    },
  });
  const config = await get(daemon.socket, '/config');
  assert.equal(config.status, 200);
  assert.match(config.body, /cgroup_manager = "cgroupfs"/);
  assert.equal((await get(daemon.socket, '/nothere')).status, 404);
  assert.equal(statSync(daemon.socket).mode & 0o777, 0o660);
});

test('the version is that of the CRI-O it replaces', async () => {
  const { version, runtimeName, runtimeVersion, runtimeApiVersion } = await node.client.runtime.version({});
  assert.deepEqual([version, runtimeName, runtimeApiVersion], ['0.1.0', 'cri-o', 'v1']);
  assert.match(runtimeVersion, /^1\.37\.0/);
});

test('status names the conditions, the handlers and their features', async () => {
  const { status, runtimeHandlers, features, info } = await node.client.runtime.status({ verbose: true });
  assert.deepEqual(
    status?.conditions.map((item) => [item.type, item.status]),
    [
      ['RuntimeReady', true],
      ['NetworkReady', true],
    ],
  );
  assert.deepEqual(runtimeHandlers.map((item) => item.name).toSorted(), ['', 'crun', 'runc']);
  assert.equal(features?.supplementalGroupsPolicy, true);
  assert.ok('config' in info);
  const { linux } = await node.client.runtime.runtimeConfig({});
  assert.equal(linux?.cgroupDriver, CgroupDriver.CGROUPFS);
});

function get(socketPath: string, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, headers: { host: 'localhost' } }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString() }));
    });
    call.on('error', reject);
    call.end();
  });
}
