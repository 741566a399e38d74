import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** Registry names whose images come from the local registry in tests. */
const redirected = ['registry.k8s.io', 'k8s.gcr.io', 'gcr.io', 'docker.io'];

/** Node-wide files at their usual places; only ever called inside a stage. */
export function writeNodeFiles(registry: string): void {
  write('/etc/containers/registries.conf', registriesConf(registry, redirected));
  write('/etc/containers/policy.json', JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }] }));
  write('/etc/containers/storage.conf', storageConf);
  write(
    '/etc/cni/net.d/10-bridge.conflist',
    JSON.stringify(bridgeNetwork({ name: 'test', bridge: 'cni0', subnet: '10.85.0.0/16' })),
  );
}

/** Every name below one of the prefixes is fetched from `registry/PREFIX/...` over plain HTTP. */
export function registriesConf(registry: string, prefixes: readonly string[]): string {
  const tables = prefixes.map(
    (prefix) => `[[registry]]\nprefix = "${prefix}"\nlocation = "${registry}/${prefix}"\ninsecure = true\n`,
  );
  return [
    'unqualified-search-registries = ["docker.io"]\n',
    `[[registry]]\nlocation = "${registry}"\ninsecure = true\n`,
    ...tables,
  ].join('\n');
}

export function bridgeNetwork({ name, bridge, subnet }: { name: string; bridge: string; subnet: string }): object {
  return {
    cniVersion: '1.0.0',
    name,
    plugins: [
      {
        type: 'bridge',
        bridge,
        isGateway: true,
        ipMasq: true,
        hairpinMode: true,
        ipam: { type: 'host-local', ranges: [[{ subnet }]], routes: [{ dst: '0.0.0.0/0' }] },
      },
    ],
  };
}

const storageConf = [
  '[storage]',
  'driver = "overlay"',
  'graphroot = "/var/lib/containers/storage"',
  'runroot = "/run/containers/storage"',
  '',
].join('\n');

export function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
