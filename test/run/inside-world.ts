import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../fixtures/process.ts';
import { listCgroups } from './cgroups.ts';
import { stageCgroup } from './stage.ts';

const patienceMs = 5000;

/**
 * Throws when something of a pod or container is left in the stage, after up to 5 s for the kernel to finish. For when
 * all pods have been removed.
 */
export async function assertNothingLeft(): Promise<void> {
  const end = Date.now() + patienceMs;
  for (;;) {
    const found = podLeftovers();
    if (found.length === 0) return;
    if (Date.now() > end) throw new Error(`left behind after all pods were removed:\n  ${found.join('\n  ')}`);
    await sleep(100);
  }
}

/** Everything that only exists while a pod does, one line each. */
export function podLeftovers(): string[] {
  return [...processes(), ...mounts(), ...pinned(), ...links(), ...rules(), ...cgroups(), ...records()];
}

function processes(): string[] {
  const own = mountNamespace('self');
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const line = commandLine(pid);
      const isMonitor = /^\S*conmon\0/.test(line) && mountNamespace(pid) === own;
      return isMonitor || inPodCgroup(pid) ? [`process ${pid} ${line.replaceAll('\0', ' ').slice(0, 120)}`] : [];
    });
}

function inPodCgroup(pid: string): boolean {
  return readIfThere(`/proc/${pid}/cgroup`).includes(`/${stageCgroup()}/`);
}

function mounts(): string[] {
  const pattern = /overlay-containers|\/overlay\/[0-9a-f]{64}\/merged|\/(net|ipc|uts|user|pid)ns\//;
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => pattern.test(path))
    .map((path) => `mount ${path}`);
}

function pinned(): string[] {
  return ['netns', 'ipcns', 'utsns', 'userns', 'pidns'].flatMap((kind) =>
    list(`/run/${kind}`).map((name) => `namespace ${kind}/${name}`),
  );
}

function links(): string[] {
  return run('ip', ['-brief', 'link', 'show', 'type', 'veth'])
    .split('\n')
    .filter(Boolean)
    .map((line) => `link ${line}`);
}

function rules(): string[] {
  // A chain or map that all pods share stays; a rule, chain or element of one pod must not. Everything of one pod
  // carries its id, a hash of it, or its address.
  const saved = run('nft', ['list', 'ruleset'], { allow: [1] }).split('\n');
  return saved
    .filter((line) => /[0-9a-f]{24}|\b10\.85\.\d+\.[2-9]|KUBE-HP-/.test(line))
    .map((line) => `rule ${line.trim()}`);
}

function cgroups(): string[] {
  return listCgroups()
    .filter(
      (path) =>
        path.includes(`/${stageCgroup()}/`) && /\/(crio|conmon|libpod)-/.test(path.split(stageCgroup())[1] ?? ''),
    )
    .map((path) => `cgroup ${path}`);
}

/** Records on disk: containers, their layers are gone when these are; exits, network results and addresses. */
function records(): string[] {
  const folders = [
    '/var/lib/cni/results',
    '/run/containers/storage/overlay-containers',
    '/var/run/crio/exits',
    '/run/crun',
    '/run/runc',
  ];
  const containers = list('/var/lib/containers/storage/overlay-containers').filter((name) =>
    /^[0-9a-f]{64}$/.test(name),
  );
  const addresses = list('/var/lib/cni/networks').flatMap((network) =>
    list(`/var/lib/cni/networks/${network}`).filter((name) => /^[0-9.]+$/.test(name)),
  );
  return [
    ...containers.map((name) => `container record ${name}`),
    ...addresses.map((name) => `address ${name}`),
    ...folders.flatMap((folder) =>
      list(folder)
        .filter((name) => /[0-9a-f]{64}/.test(name))
        .map((name) => `file ${folder}/${name}`),
    ),
  ];
}

function mountNamespace(pid: string): string {
  return linkIfThere(`/proc/${pid}/ns/mnt`);
}

function commandLine(pid: string): string {
  return readIfThere(`/proc/${pid}/cmdline`);
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // The process ended while we looked.
    return '';
  }
}

function linkIfThere(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // As above.
    return '';
  }
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}
