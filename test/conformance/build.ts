import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { run } from '../fixtures/process.ts';
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
  const hash = createHash('sha256').update(digest);
  for (const name of ['go.mod', 'go.sum', 'build.ts']) hash.update(readFileSync(join(import.meta.dirname, name)));
  const folder = join(repository, 'build/conformance', hash.digest('hex').slice(0, 12));
  if (!existsSync(folder)) buildInto(folder, digest);
  return {
    crictl: join(folder, 'crictl'),
    critest: join(folder, 'critest'),
    critestOwnDigest: join(folder, 'critest-own-digest'),
  };
}

function buildInto(folder: string, digest: string): void {
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  const program = findGo();
  const go = (...args: readonly string[]): string =>
    run(program, args, { cwd: import.meta.dirname, env: goEnvironment() });
  go('mod', 'download');
  go('build', '-o', join(unfinished, 'crictl'), crictlPackage);
  go('test', '-c', '-o', join(unfinished, 'critest'), critestPackage);
  const module = go('list', '-m', '-f', '{{.Dir}}', 'sigs.k8s.io/cri-tools').trim();
  go(
    'test',
    '-c',
    ...overlayArguments(unfinished, module, digest),
    '-o',
    join(unfinished, 'critest-own-digest'),
    critestPackage,
  );
  renameSync(unfinished, folder);
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

/** A Go of 1.21 or later fetches by itself the toolchain that go.mod names. */
function goEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, GOTOOLCHAIN: 'auto', GOFLAGS: '-buildvcs=false' };
}

/** Go of the machine if it is 1.21 or later, else the newest that Debian's backports installed below /usr/lib. */
function findGo(): string {
  const installed = readdirSync('/usr/lib').filter((name) => /^go-1\.\d+$/.test(name));
  const newest = installed.toSorted((a, b) => minor(b) - minor(a)).map((name) => `/usr/lib/${name}/bin/go`);
  for (const candidate of ['go', '/usr/local/go/bin/go', ...newest]) {
    try {
      if (minor(run(candidate, ['version'])) >= 21) return candidate;
    } catch {
      // Not there, or not a Go.
    }
  }
  throw new Error('find Go 1.21 or later: none (test/setup/setup.sh test installs one)');
}

function minor(text: string): number {
  return Number(/go-?1\.(\d+)/.exec(text)?.[1] ?? 0);
}
