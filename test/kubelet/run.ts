/**
 * A real kubelet on the real daemon, once for each place of the daemon's socket, at the same time:
 *   node test/kubelet/run.ts [SUBSTRING of a place's name]
 * The last line is `N passed, N failed, N skipped`.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { mkdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buildImages } from '../fixtures/build.ts';
import { makeMountpoints, repository } from '../run/stage.ts';
import { buildKubelet } from './build.ts';
import { kubeletFolders } from './kubelet.ts';

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** At CRI-O's own path the kubelet has its cAdvisor ask the daemon's HTTP API; elsewhere it asks for stats by CRI. */
const places = [
  { name: 'cAdvisor', socket: '/var/run/crio/crio.sock' },
  { name: 'CRI', socket: '/run/runtime/cri.sock' },
];
/** Node's words for ours. */
const keys: Readonly<Record<string, keyof Counts>> = {
  pass: 'passed',
  fail: 'failed',
  cancelled: 'failed',
  skipped: 'skipped',
  todo: 'skipped',
};
const logs = process.env['CRIO_TS_LOGS'] ?? join(repository, 'build/logs');
process.exitCode = await main(process.argv[2] ?? '');

async function main(part: string): Promise<number> {
  mkdirSync(logs, { recursive: true });
  // Outside: a stage has no route to the modules, and two must not build at once.
  buildKubelet();
  await buildImages('test');
  const made = makeMountpoints(kubeletFolders);
  try {
    const results = await Promise.all(places.filter(({ name }) => name.includes(part)).map(runPlace));
    const sum = (key: keyof Counts): number => results.reduce((total, counts) => total + counts[key], 0);
    console.log(`Logs of the kubelets and of the daemons: ${logs}/kubelet-*`);
    console.log(`${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`);
    return sum('failed') === 0 && sum('passed') > 0 ? 0 : 1;
  } finally {
    for (const path of made.toReversed()) rmdirSync(path);
  }
}

/** Prints the lines of the tests with the place before each. */
async function runPlace({ name, socket }: (typeof places)[number]): Promise<Counts> {
  const flags = ['--test', '--test-reporter=spec', '--test-timeout=300000'];
  const test = [process.execPath, ...flags, join(import.meta.dirname, 'kubelet.test.ts')];
  const folder = join(logs, `kubelet-${name}`);
  rmSync(folder, { recursive: true, force: true });
  const child = spawn(process.execPath, [join(repository, 'test/run/main.ts'), ...test], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, CRI_SOCKET: socket, CRIO_TS_LOGS: folder },
  });
  const exited = new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for await (const line of createInterface(child.stdout)) {
    const match = /^. (pass|fail|cancelled|skipped|todo) (\d+)$/.exec(line);
    if (match !== null) counts[keys[match[1] ?? ''] ?? 'failed'] += Number(match[2]);
    else if (!/^. (tests|suites|duration_ms) /.test(line) && line !== '') console.log(`${name}  ${line}`);
  }
  if ((await exited) !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}
