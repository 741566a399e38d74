import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { basename, dirname, resolve } from 'node:path';
import { rolldown } from 'rolldown';
import type { Plugin } from 'rolldown';
import { loosePackages } from './loose-packages.ts';

/**
 * Bundles the daemon into one file, build/crio.mjs, and one for each worker thread: it starts several times faster and in less memory than loose
 * sources. `bin/crio` prefers the bundle when it is there.
 */

const root = new URL('..', import.meta.url).pathname;

function git(...args: readonly string[]): string | undefined {
  try {
    return execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
}

/** HEAD, for a machine without git: the checkout's own files say it, gitrepository-layout(5). */
function headCommit(): string | undefined {
  const read = (name: string): string | undefined =>
    existsSync(`${root}.git/${name}`) ? readFileSync(`${root}.git/${name}`, 'utf8').trim() : undefined;
  const head = read('HEAD');
  if (head?.startsWith('ref: ') !== true) return head;
  const name = head.slice('ref: '.length);
  const packed = read('packed-refs')?.split('\n') ?? [];
  return read(name) ?? packed.find((line) => line.endsWith(` ${name}`))?.split(' ')[0];
}

interface Lockfile {
  readonly packages: Readonly<
    Record<string, { readonly version?: string; readonly integrity?: string; readonly dev?: boolean }>
  >;
}

function dependencies(): readonly string[] {
  const lock: Lockfile = JSON.parse(readFileSync(`${root}package-lock.json`, 'utf8'));
  return Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true)
    .map(([path, { version, integrity }]) =>
      `${path.replace(/^.*node_modules\//, '')} ${version ?? ''} ${integrity ?? ''}`.trim(),
    );
}

const changes = git('status', '--porcelain', '--untracked-files=no');
const build = {
  commit: git('rev-parse', 'HEAD') ?? headCommit() ?? 'unknown',
  commitDate: git('log', '-1', '--format=%cI') ?? 'unknown',
  treeState: changes === undefined ? 'unknown' : changes === '' ? 'clean' : 'dirty',
  buildDate: new Date().toISOString().replace(/\.\d+/, ''),
  dependencies: dependencies(),
};

/** Sources of worker threads, as `new URL('./x.ts', import.meta.url)`; each becomes a file of its own, build/x.mjs. */
const workers = new Set<string>();
const workerUrl = /new URL\('\.\/([\w-]+)\.ts', import\.meta\.url\)/g;

const workerPlugin: Plugin = {
  name: 'workers',
  transform(code, id) {
    for (const [, name = ''] of code.matchAll(workerUrl)) workers.add(resolve(dirname(id), `${name}.ts`));
    return code.replace(workerUrl, "new URL('./$1.mjs', import.meta.url)");
  },
};

/** Only grpc-js's channelz loads it, in a function that is never called here: 300 KB to parse at each start. */
const unusedModule = '@grpc/proto-loader';

/**
 * An ESM import of node:http reads all its exports, and some load undici: 40 ms and 10 MB that nothing here uses. The
 * plain module object does not.
 */
const slimPlugin: Plugin = {
  name: 'slim',
  resolveId(source, importer) {
    if (source === unusedModule) return `\0${source}`;
    return source === 'node:http' && importer?.endsWith('.ts') === true ? `\0${source}` : undefined;
  },
  load(id) {
    if (id === `\0${unusedModule}`) return 'export {};';
    if (id !== '\0node:http') return undefined;
    const names = Object.entries(Object.getOwnPropertyDescriptors(http)).filter(([, property]) => 'value' in property);
    return `export const { ${names.map(([name]) => name).join(', ')} } = process.getBuiltinModule('node:http');`;
  },
};

/** One character beyond Latin-1 makes V8 keep the whole text in two bytes per character. */
const latinPlugin: Plugin = {
  name: 'latin',
  renderChunk: (code) =>
    code.replace(/[\u0100-\uffff]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`),
};

/** What bin/crio sets for Node alone; no program that the daemon starts may inherit it. */
const takenFromEnvironment = [
  'NODE_COMPILE_CACHE',
  'MALLOC_ARENA_MAX',
  'MALLOC_TRIM_THRESHOLD_',
  'MALLOC_MMAP_THRESHOLD_',
];

async function bundleFile(input: string, output: string): Promise<void> {
  const bundle = await rolldown({
    input,
    platform: 'node',
    external: [...loosePackages],
    plugins: [slimPlugin, workerPlugin, latinPlugin],
    transform: { define: { __CRIO_BUILD__: JSON.stringify(build) } },
  });
  await bundle.write({
    file: output,
    format: 'esm',
    codeSplitting: false,
    banner: takenFromEnvironment.map((name) => `delete process.env.${name};`).join(''),
    minify: false,
    sourcemap: false,
  });
  await bundle.close();
}

await bundleFile(`${root}src/main.ts`, `${root}build/crio.mjs`);
for (const worker of workers) await bundleFile(worker, `${root}build/${basename(worker, '.ts')}.mjs`);

// bin/crio starts Node with this cache: compiling the bundle is half of the time of a start. One short run fills it.
const cache = `${root}build/cache`;
rmSync(cache, { recursive: true, force: true });
execFileSync(process.execPath, [`${root}build/crio.mjs`, '--version'], {
  env: { ...process.env, NODE_COMPILE_CACHE: cache },
  stdio: ['ignore', 'ignore', 'inherit'],
});
