import { writeFile } from 'node:fs/promises';
import { CrioError, wrap } from '../base/errors.ts';
import { MS_BIND, mount } from '../sys/mount.ts';
import { inNamespace, writeSysctl, type PinnableNamespace } from '../sys/namespace.ts';
import { setInterfaceUp } from '../sys/interface.ts';
import { spawn, type ChildHandle } from '../sys/spawn.ts';
import type { IdMapping } from './config.ts';
import type { PodNamespace } from './namespace-plan.ts';
import { createPinFile, type PinRequest } from './pin-file.ts';

const SIGKILL = 9;
const readyTimeoutMs = 10_000;

/** Flags of unshare(1) and names below /proc/<pid>/ns. */
const kinds: Readonly<Record<PodNamespace, { readonly flag: string; readonly file: string }>> = {
  user: { flag: '--user', file: 'user' },
  network: { flag: '--net', file: 'net' },
  ipc: { flag: '--ipc', file: 'ipc' },
  uts: { flag: '--uts', file: 'uts' },
};

/**
 * Pins a user namespace and the others that it owns. A process with threads cannot make a user namespace for itself
 * and come back, so a child holds them until they are pinned: unshare(1) and then `cat`, which answers when it is there.
 */
export async function pinUserNamespaces(request: PinRequest): Promise<void> {
  const { plan, userNamespace } = request;
  const types = [...plan.paths.keys()].filter((type) => !plan.ofHost.has(type));
  const holder = spawn({
    file: 'unshare',
    args: [...types.map((type) => kinds[type].flag), 'cat'],
    env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  try {
    await holderIsReady(holder);
    await writeFile(`/proc/${holder.pid}/uid_map`, formatIdMap(userNamespace.uidMap));
    await writeFile(`/proc/${holder.pid}/gid_map`, formatIdMap(userNamespace.gidMap));
    for (const [type, path] of plan.paths) {
      if (plan.ofHost.has(type)) continue;
      createPinFile(path);
      mount(`/proc/${holder.pid}/ns/${kinds[type].file}`, path, 'none', MS_BIND);
    }
    applySettings(request);
  } finally {
    holder.kill(SIGKILL);
    holder.stdin?.destroy();
    await holder.exited;
    holder.close();
  }
}

/** Text of uid_map and gid_map, user_namespaces(7). Pure. */
export function formatIdMap(map: readonly IdMapping[]): string {
  return map.map(({ containerId, hostId, size }) => `${containerId} ${hostId} ${size}\n`).join('');
}

/** What `cat` sends back tells that unshare has done its part. */
async function holderIsReady(holder: ChildHandle): Promise<void> {
  const { stdin, stdout, stderr } = holder;
  if (stdin === undefined || stdout === undefined) throw new CrioError('internal', 'unshare: no pipes');
  let problem = '';
  stderr?.on('data', (chunk: Buffer) => (problem += chunk.toString('utf8').slice(0, 500)));
  stdin.on('error', () => undefined);
  const answered = new Promise<void>((resolve) => stdout.once('data', () => resolve()));
  stdin.write('\n');
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(() => timeout.reject(new CrioError('deadline', 'unshare: no answer')), readyTimeoutMs);
  const ended = holder.exited.then(({ code, signal }) => {
    throw new CrioError('unknown', `unshare: ${problem.trim() || `exit status ${code ?? signal}`}`);
  });
  try {
    await Promise.race([answered, ended, timeout.promise]);
  } finally {
    clearTimeout(timer);
    ended.catch(() => undefined);
  }
}

/** Written from inside each namespace, one at a time. */
function applySettings({ plan, sysctls, hostname }: PinRequest): void {
  const enter = (type: PinnableNamespace, work: () => void) => {
    const path = plan.paths.get(type);
    if (path !== undefined && !plan.ofHost.has(type)) inNamespace(path, type, work);
  };
  const write = (isMine: (name: string) => boolean) => () => {
    for (const [name, value] of sysctls) if (isMine(name)) writeSysctl(name, value);
  };
  try {
    enter('network', () => setInterfaceUp('lo'));
    enter(
      'network',
      write((name) => name.startsWith('net')),
    );
    enter(
      'ipc',
      write((name) => !name.startsWith('net')),
    );
    enter('uts', () => writeSysctl('kernel.hostname', hostname));
  } catch (error) {
    throw wrap('set up user namespace', error);
  }
}
