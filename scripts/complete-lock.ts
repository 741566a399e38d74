/**
 * Adds to package-lock.json the optional packages of other platforms that the registry in use does not serve.
 * `npm install` leaves them out there, and `npm ci` then refuses the file as out of step with its packages. They are
 * never installed here: `os` and `cpu` say so. Run it after every `npm install`; `npm run lock` does both.
 */
import { readFileSync, writeFileSync } from 'node:fs';

interface LockedPackage {
  version?: string;
  dev?: boolean;
  optional?: boolean;
  os?: string[];
  cpu?: string[];
  libc?: string[];
  optionalDependencies?: Record<string, string>;
}

const file = 'package-lock.json';
const lock: { packages: Record<string, LockedPackage> } = JSON.parse(readFileSync(file, 'utf8'));
const added: Record<string, LockedPackage> = {};

for (const [place, { optionalDependencies = {}, dev }] of Object.entries(lock.packages)) {
  if (place === '') continue;
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const key = `node_modules/${name}`;
    if (lock.packages[key] !== undefined || lock.packages[`${place}/${key}`] !== undefined) continue;
    added[key] = { version, ...platformOf(name), ...(dev === true ? { dev } : {}), optional: true };
  }
}

const packages = Object.entries({ ...lock.packages, ...added }).toSorted(([a], [b]) => (a < b ? -1 : 1));
writeFileSync(file, `${JSON.stringify({ ...lock, packages: Object.fromEntries(packages) }, null, 2)}\n`);
console.log(`${file}: ${Object.keys(added).length} packages of other platforms added`);

/** Such packages carry their platform in the name: `@oxlint/binding-win32-arm64-msvc`. */
function platformOf(name: string): { os: string[]; cpu: string[] } {
  const words = name.split(/[-/.]/);
  const os = [
    'aix',
    'android',
    'darwin',
    'freebsd',
    'linux',
    'netbsd',
    'openbsd',
    'openharmony',
    'sunos',
    'win32',
    'wasi',
  ];
  const cpus: Readonly<Record<string, string>> = {
    aarch64: 'arm64',
    armv7: 'arm',
    armv6: 'arm',
    wasm32: 'wasm32',
    x86: 'ia32',
  };
  const known = ['arm', 'arm64', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'x64', 'wasm32'];
  const cpu = words.map((word) => cpus[word] ?? word).find((word) => known.includes(word));
  return { os: [words.find((word) => os.includes(word)) ?? 'none'], cpu: [cpu ?? 'none'] };
}
