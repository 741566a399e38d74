import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildOnce } from '../fixtures/go.ts';
import { repository } from '../run/stage.ts';

export interface KubeletPrograms {
  readonly kubelet: string;
  /** kubectl's streaming library behind a command line: client/main.go. */
  readonly client: string;
}

const kubeletPackage = 'k8s.io/kubernetes/cmd/kubelet';
/** No symbol tables: the linker needs half the time. */
const linkerFlags = '-s -w';

/** Builds the real kubelet of the version in go.mod, once per state of this folder's Go files; minutes the first time. */
export function buildKubelet(): KubeletPrograms {
  const folder = buildOnce({
    module: import.meta.dirname,
    inputs: ['go.mod', 'go.sum', 'build.ts', 'client/main.go'],
    output: join(repository, 'build/kubelet'),
    // Nothing of C is in it, so no compiler and no cache of its results either.
    env: { CGO_ENABLED: '0' },
    build: (go, output) => {
      console.log('building the kubelet, which takes minutes the first time');
      const build = (name: string, flags: string, path: string): string =>
        go('build', '-p', '2', '-ldflags', flags, '-o', join(output, name), path);
      build('kubelet', `${linkerFlags} -X k8s.io/component-base/version.gitVersion=${version()}`, kubeletPackage);
      build('client', linkerFlags, './client');
    },
  });
  return { kubelet: join(folder, 'kubelet'), client: join(folder, 'client') };
}

/** What the kubelet calls itself; without it, it takes itself for v0.0.0. */
function version(): string {
  const match = /k8s\.io\/kubernetes (v\S+)/.exec(readFileSync(join(import.meta.dirname, 'go.mod'), 'utf8'));
  if (match?.[1] === undefined) throw new Error('find the version of the kubelet in go.mod: not there');
  return match[1];
}
