import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../fixtures/process.ts';
import { repository } from './stage.ts';

/** Files of `make run`: what is to last lies in the checkout, what a reboot ends below /run. */
export const runFolder = folderOf(repository);
export const recordFile = recordOf(repository);
export const volatileFolder = '/run/crio-ts';
export const runSocket = join(volatileFolder, 'crio.sock');
/** Names the checkout that the daemon below /run belongs to. */
const ownerFile = join(volatileFolder, 'checkout');
export const bridgeName = 'crio-ts0';
export const forwardFile = '/proc/sys/net/ipv4/ip_forward';

/** Folders that the plugins, the runtimes (`crun features`) and mount(8) make; empty when all have ended. */
export const sideFolders = ['/var/lib/cni', '/run/crun', '/run/runc', '/run/mount', '/sys/fs/cgroup/hugetlb'];

/** What there was before the daemon, so that `make stop` takes away only what came with it. */
export interface Before {
  readonly links: readonly string[];
  /** nftables tables as `family name`. */
  readonly tables: readonly string[];
  readonly ipForward: string;
  /** Those of `sideFolders` that were there. */
  readonly folders: readonly string[];
  readonly supervisor: number;
}

/** There is one place below /run for all checkouts. Undefined when it is free, this one's, or left by one that is gone. */
export function otherCheckout(): string | undefined {
  const owner = existsSync(ownerFile) ? readFileSync(ownerFile, 'utf8') : repository;
  return owner === repository || !existsSync(recordOf(owner)) ? undefined : owner;
}

function folderOf(checkout: string): string {
  return join(checkout, '.run');
}

/** What `make run` has written down for `make stop`. */
function recordOf(checkout: string): string {
  return join(folderOf(checkout), 'before.json');
}

export function takeOver(): void {
  mkdirSync(volatileFolder, { recursive: true, mode: 0o755 });
  writeFileSync(ownerFile, repository);
}

/** What one who runs `make` here is told of the other. */
export function belongsTo(checkout: string): string {
  return `${volatileFolder} belongs to the daemon of the checkout ${checkout}; "make -C ${checkout} stop" ends it`;
}

export function recordBefore(): Omit<Before, 'supervisor'> {
  return {
    links: links(),
    tables: tables(),
    ipForward: readFileSync(forwardFile, 'utf8').trim(),
    folders: sideFolders.filter((folder) => existsSync(folder)),
  };
}

export function links(): string[] {
  return readdirSync('/sys/class/net');
}

export function tables(): string[] {
  return run('nft', ['list', 'tables'])
    .split('\n')
    .filter(Boolean)
    .map((line) => line.replace(/^table /, ''));
}

export function runtimePaths(): { crun: string; runc: string; conmon: string } {
  const find = (name: string): string => run('sh', ['-c', 'command -v "$0"', name]).trim();
  return { crun: find('crun'), runc: find('runc'), conmon: find('conmon') };
}
