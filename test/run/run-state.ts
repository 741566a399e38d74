import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../fixtures/process.ts';
import { repository } from './stage.ts';

/** Files of `make run`: what is to last lies in the checkout, what a reboot ends below /run. */
export const runFolder = join(repository, '.run');
export const volatileFolder = '/run/crio-ts';
export const runSocket = join(volatileFolder, 'crio.sock');
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

export function nodeHasNetwork(): boolean {
  const folder = '/etc/cni/net.d';
  return existsSync(folder) && readdirSync(folder).some((name) => /\.(conf|conflist|json)$/.test(name));
}

export function runtimePaths(): { crun: string; runc: string; conmon: string } {
  const find = (name: string): string => run('sh', ['-c', 'command -v "$0"', name]).trim();
  return { crun: find('crun'), runc: find('runc'), conmon: find('conmon') };
}
