import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { rolldown } from 'rolldown';
import { run } from '../fixtures/process.ts';
import { registriesConf } from '../run/node-files.ts';
import { testConfig } from '../run/daemon.ts';
import { repository } from '../run/stage.ts';

/** Where test/setup/setup.sh unpacks Debian's cloud kernel. */
const kernelFolder = join(repository, 'build/kernel');
const registryAddress = '127.0.0.1:5000';
const drivers = [
  'virtio',
  'virtio_ring',
  'virtio_pci_modern_dev',
  'virtio_pci_legacy_dev',
  'virtio_pci',
  'virtio_blk',
  'overlay',
];

export interface GuestParts {
  readonly kernel: string;
  readonly initrd: string;
  readonly rootDisk: string;
}

/** Puts a small system together from what is installed here: the daemon, a registry with its images, and what both need. */
export async function buildGuest(options: {
  readonly folder: string;
  readonly registryStorage: string;
  readonly images: readonly string[];
}): Promise<GuestParts> {
  const { folder } = options;
  const root = join(folder, 'root');
  for (const path of [
    'proc',
    'sys',
    'dev',
    'run',
    'tmp',
    'root',
    'etc/containers',
    'etc/crio',
    'etc/cni/net.d',
    'usr/lib/cni',
  ])
    mkdirSync(join(root, path), { recursive: true });
  for (const path of ['var/lib/containers', 'var/lib/crio', 'var/log'])
    mkdirSync(join(root, path), { recursive: true });
  symlinkSync('/run', join(root, 'var/run'));
  const programs = ['/bin/busybox', '/usr/bin/docker-registry', '/usr/bin/conmon', '/usr/bin/crun', '/usr/sbin/runc'];
  for (const program of [...programs, '/usr/bin/rm']) copyProgram(root, program);
  for (const name of ['sh', 'mount', 'dirname', 'readlink', 'uname', 'env', 'cp', 'ls'])
    if (!existsSync(join(root, 'usr/bin', name))) symlinkSync('/bin/busybox', join(root, 'usr/bin', name));
  symlinkSync('/bin/busybox', join(root, 'bin/sh'));
  copyDaemon(root);
  cpSync(options.registryStorage, join(root, 'registry'), { recursive: true });
  const text = (path: string, content: string): void => writeFileSync(join(root, path), content);
  text(
    'etc/registry.yml',
    JSON.stringify({
      version: 0.1,
      log: { level: 'error' },
      storage: { filesystem: { rootdirectory: '/registry' }, maintenance: { uploadpurging: { enabled: false } } },
      http: { addr: registryAddress },
    }),
  );
  text('etc/containers/registries.conf', registriesConf(registryAddress, ['docker.io']));
  text('etc/containers/policy.json', JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }] }));
  text('etc/crio/crio.conf', testConfig({ logLevel: 'info' }));
  text('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n');
  await bundleWork(join(root, 'work.mjs'));
  const node = `/crio/${nodePath()}`;
  text(
    'work.sh',
    `export PATH=/usr/bin:/usr/sbin:/bin HOME=/root\nexec ${node} /work.mjs ${options.images.join(' ')}\n`,
  );
  return { kernel: join(kernelFolder, 'vmlinuz'), initrd: buildInitrd(folder), rootDisk: buildDisk(folder, root) };
}

function nodePath(): string {
  return `node_modules/node-linux-${process.arch}/bin/node`;
}

function copyDaemon(root: string): void {
  for (const path of ['bin/crio', nodePath()]) {
    mkdirSync(dirname(join(root, 'crio', path)), { recursive: true });
    copyFileSync(join(repository, path), join(root, 'crio', path));
    chmodSync(join(root, 'crio', path), 0o755);
  }
  copyLibraries(root, join(repository, nodePath()));
  mkdirSync(join(root, 'crio/build'), { recursive: true });
  for (const name of readdirSync(join(repository, 'build')))
    if (name.endsWith('.mjs')) copyFileSync(join(repository, 'build', name), join(root, 'crio/build', name));
  for (const path of dependencies()) {
    const from = join(repository, path);
    if (existsSync(from)) cpSync(from, join(root, 'crio', path), { recursive: true });
  }
}

/** What the bundle leaves outside itself: packages that are not only for development. Node is there already. */
function dependencies(): string[] {
  const lock: { packages: Readonly<Record<string, { dev?: boolean }>> } = JSON.parse(
    readFileSync(join(repository, 'package-lock.json'), 'utf8'),
  );
  return Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true && !path.includes('node-linux-'))
    .map(([path]) => path);
}

function copyProgram(root: string, program: string): void {
  const to = join(root, program);
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(program, to);
  chmodSync(to, 0o755);
  copyLibraries(root, program);
}

function copyLibraries(root: string, program: string): void {
  for (const [, path = ''] of run('ldd', [program], { allow: [1] }).matchAll(/(?:=> |^\s)(\/\S+) \(/gm)) {
    const to = join(root, path);
    mkdirSync(dirname(to), { recursive: true });
    if (!existsSync(to)) copyFileSync(path, to);
  }
}

async function bundleWork(output: string): Promise<void> {
  const bundle = await rolldown({ input: join(import.meta.dirname, 'guest-work.ts'), platform: 'node' });
  await bundle.write({ file: output, format: 'esm', codeSplitting: false });
  await bundle.close();
}

/** An ext4 image of the folder, with some room. */
function buildDisk(folder: string, root: string): string {
  const disk = join(folder, 'root.img');
  const bytes = Number(run('du', ['-sb', root]).split('\t')[0]);
  writeFileSync(disk, '');
  truncateSync(disk, Math.ceil(bytes * 1.3) + 64 * 2 ** 20);
  run('mkfs.ext4', ['-q', '-F', '-O', '^has_journal', '-d', root, disk]);
  rmSync(root, { recursive: true });
  return disk;
}

function buildInitrd(folder: string): string {
  const root = join(folder, 'initrd');
  for (const path of ['bin', 'proc', 'sys', 'dev', 'root', 'modules']) mkdirSync(join(root, path), { recursive: true });
  copyFileSync('/bin/busybox', join(root, 'bin/busybox'));
  copyFileSync(join(import.meta.dirname, 'guest-init.sh'), join(root, 'init'));
  for (const path of ['bin/busybox', 'init']) chmodSync(join(root, path), 0o755);
  const modules = run('find', [join(kernelFolder, 'modules'), '-name', '*.ko*'])
    .split('\n')
    .filter(Boolean);
  for (const path of modules) {
    const name = basename(path).replace(/\.ko.*$/, '');
    if (!drivers.includes(name)) continue;
    const to = join(root, 'modules', basename(path));
    copyFileSync(path, to);
    if (path.endsWith('.xz')) run('xz', ['-d', to]);
  }
  const output = join(folder, 'initrd.cpio');
  run('sh', ['-c', `cd "$0" && find . | busybox cpio -o -H newc >"$1"`, root, output]);
  return output;
}

/** The processor is emulated: where KVM is offered, it may be one that does not work. */
const limitSeconds = 240;

/** Runs the machine until it turns itself off, with a disk whose every write is logged. Returns what it printed. */
export function runGuest(
  parts: GuestParts,
  disks: { readonly disk: string; readonly log: string; readonly console: string },
): string {
  const { size } = statSync(disks.disk);
  writeFileSync(disks.log, '');
  truncateSync(disks.log, 8 * size);
  const isX64 = process.arch === 'x64';
  const console_ = isX64 ? 'ttyS0' : 'ttyAMA0';
  const file = (name: string, path: string): string[] => [
    '-blockdev',
    `driver=file,node-name=${name}-file,filename=${path},cache.direct=off`,
    '-blockdev',
    `driver=raw,node-name=${name},file=${name}-file`,
  ];
  run(
    'timeout',
    [
      String(limitSeconds),
      isX64 ? 'qemu-system-x86_64' : 'qemu-system-aarch64',
      ...(isX64 ? ['-machine', 'pc', '-cpu', 'max'] : ['-machine', 'virt', '-cpu', 'max']),
      ...['-accel', 'tcg', '-m', '1024', '-smp', '2', '-nodefaults', '-display', 'none', '-no-reboot'],
      ...['-serial', `file:${disks.console}`, '-kernel', parts.kernel, '-initrd', parts.initrd],
      ...['-append', `console=${console_} quiet panic=-1 mitigations=off`],
      ...file('root', parts.rootDisk),
      ...file('disk', disks.disk),
      ...file('log', disks.log),
      ...['-blockdev', 'driver=blklogwrites,node-name=logged,file=disk,log=log,log-super-update-interval=1'],
      ...[
        '-device',
        'virtio-blk-pci,drive=root',
        '-device',
        'virtio-blk-pci,drive=logged,discard=off,write-zeroes=off',
      ],
    ],
    { allow: [124] },
  );
  return readFileSync(disks.console, 'utf8');
}
