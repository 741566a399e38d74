import { copyFileSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildOnce, type Go } from '../fixtures/go.ts';
import { digestImageName } from '../fixtures/images.ts';
import type { ImageDigests } from '../fixtures/build.ts';
import { repository } from '../run/stage.ts';

export interface Tools {
  readonly crictl: string;
  readonly critest: string;
  /** critest whose constant digest is that of our own image; used for the one spec that pulls by it. */
  readonly critestOwnDigest: string;
}

const critestPackage = 'sigs.k8s.io/cri-tools/cmd/critest';
const crictlPackage = 'sigs.k8s.io/cri-tools/cmd/crictl';

/** Builds the tools once per state of go.mod and of the images; the module here names the version of cri-tools. */
export function buildTools(digests: ImageDigests): Tools {
  const digest = digests[digestImageName];
  if (digest === undefined) throw new Error(`find image "${digestImageName}": not built`);
  const folder = buildOnce({
    module: import.meta.dirname,
    inputs: ['go.mod', 'go.sum', 'build.ts'],
    key: digest,
    output: join(repository, 'build/conformance'),
    build: (go, output) => buildInto(go, output, digest),
  });
  return {
    crictl: join(folder, 'crictl'),
    critest: join(folder, 'critest'),
    critestOwnDigest: join(folder, 'critest-own-digest'),
  };
}

function buildInto(go: Go, folder: string, digest: string): void {
  go('mod', 'download');
  go('build', '-o', join(folder, 'crictl'), crictlPackage);
  go('test', '-c', '-o', join(folder, 'critest'), critestPackage);
  const module = go('list', '-m', '-f', '{{.Dir}}', 'sigs.k8s.io/cri-tools').trim();
  go(
    'test',
    '-c',
    ...overlayArguments(folder, module, digest),
    '-o',
    join(folder, 'critest-own-digest'),
    critestPackage,
  );
}

/**
 * Flags for a build in which the file of constants holds the digest of our image. Go lays no overlay over its module
 * cache, so the module is reached through a link elsewhere. All of this is made anew at each build.
 */
function overlayArguments(folder: string, module: string, digest: string): string[] {
  const pattern = /(testLinuxImageWithDigest\s*=\s*registry \+ "test-image-digest@)sha256:[0-9a-f]{64}/;
  const text = readFileSync(join(module, 'pkg/validate/consts.go'), 'utf8');
  if (!pattern.test(text)) throw new Error(`find the digest constant in "${module}": not there`);
  const [link, constants, overlay, modfile] = [
    join(folder, 'cri-tools'),
    join(folder, 'consts.go'),
    join(folder, 'overlay.json'),
    join(folder, 'overlay.mod'),
  ];
  symlinkSync(module, link);
  writeFileSync(
    constants,
    text.replace(pattern, (_, before: string) => `${before}${digest}`),
  );
  writeFileSync(overlay, JSON.stringify({ Replace: { [join(link, 'pkg/validate/consts.go')]: constants } }));
  writeFileSync(
    modfile,
    `${readFileSync(join(import.meta.dirname, 'go.mod'), 'utf8')}\nreplace sigs.k8s.io/cri-tools => ${link}\n`,
  );
  copyFileSync(join(import.meta.dirname, 'go.sum'), join(folder, 'overlay.sum'));
  return ['-mod=mod', `-modfile=${modfile}`, `-overlay=${overlay}`];
}
