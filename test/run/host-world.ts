import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { run } from '../fixtures/process.ts';
import { listCgroups } from './cgroups.ts';
import { links, tables } from './run-state.ts';

/** Folders that the daemon, the runtimes, the plugins or the tests could write to outside a stage. */
const watched = [
  '/run',
  '/run/netns',
  '/run/crio',
  '/run/containers',
  '/run/crun',
  '/run/runc',
  '/etc/cni',
  '/etc/cni/net.d',
  '/etc/containers',
  '/etc/crio',
  '/srv',
  '/var/lib',
  '/var/lib/cni',
  '/var/lib/containers',
  '/var/lib/crio',
  '/var/log',
  '/var/log/crio',
];
/** Shared by every program of the machine: only names that are ours or our tools' count. */
const temporary = ['/tmp', '/var/tmp'];
const ownName =
  /^(crio|critest|cri-test|conmon|crun|runc|libpod|podman|skopeo|buildah|container|storage|seccomp-|podLogTest|hostPath)/;
const ownProcess = /(^|\/)(conmon|crun|runc|docker-registry|critest|pause|crio|kubelet)\0|bin\/crio|test\/run\//;

/** What there is on the machine, one line each. */
export function snapshot(): Set<string> {
  return new Set([
    ...processes(),
    ...readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => `mount ${line.split(' ')[4] ?? ''}`),
    ...loopDevices(),
    ...links().map((name) => `link ${name}`),
    ...tables().map((name) => `nftables table ${name}`),
    ...rules(),
    ...listCgroups().map((path) => `cgroup ${path}`),
    ...watched.flatMap((folder) => list(folder).map((name) => `file ${folder}/${name}`)),
    ...temporary.flatMap((folder) =>
      list(folder)
        .filter((name) => ownName.test(name))
        .map((name) => `file ${folder}/${name}`),
    ),
  ]);
}

/** What there is now that there was not before. */
export function differences(before: ReadonlySet<string>): string[] {
  return [...snapshot()].filter((line) => !before.has(line));
}

function processes(): string[] {
  const own = String(process.pid);
  return list('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== own)
    .map((pid) => ({ pid, line: commandLine(pid) }))
    .filter(({ line }) => ownProcess.test(line))
    .map(({ pid, line }) => `process ${pid} ${line.replaceAll('\0', ' ').slice(0, 160)}`);
}

/** Loop devices that have a file; they are the whole machine's, whatever namespace they were made in. */
function loopDevices(): string[] {
  return list('/sys/block')
    .filter((name) => existsSync(`/sys/block/${name}/loop/backing_file`))
    .map((name) => `loop device ${name} ${readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trim()}`);
}

function rules(): string[] {
  return ['iptables-save', 'ip6tables-save'].flatMap((program) =>
    run(program, [], { allow: [1] })
      .split('\n')
      .filter((line) => /^(-A|:)/.test(line))
      .map((line) => `rule ${line.replace(/\[\d+:\d+\]/, '')}`),
  );
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    // Ended while we looked.
    return '';
  }
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}
