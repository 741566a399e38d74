/**
 * Runs a command in the test environment, with the registry and the configuration files in place:
 *   node test/run/main.ts COMMAND [ARG...]
 * Exit code: the command's, or 90 when a process outlived it.
 */
import { spawn } from 'node:child_process';
import { dirname } from 'node:path';
import { buildImages } from '../fixtures/build.ts';
import { startRegistry } from '../fixtures/registry.ts';
import { writeNodeFiles } from './node-files.ts';
import { removeCgroups } from './cgroups.ts';
import { runInStage, stageCgroup } from './stage.ts';

const leftoverCode = 90;
const inside = '--inside';

process.exitCode =
  process.argv[2] === inside ? await runInside(process.argv.slice(3)) : await enter(process.argv.slice(2));

async function enter(command: readonly string[]): Promise<number> {
  await buildImages('test');
  const { code, leftovers } = await runInStage([process.execPath, import.meta.filename, inside, ...command], {
    PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
  });
  for (const line of leftovers) console.error(`left behind: ${line}`);
  return code === 0 && leftovers.length > 0 ? leftoverCode : code;
}

async function runInside([file = 'true', ...args]: readonly string[]): Promise<number> {
  const images = await buildImages('test');
  await using registry = await startRegistry({ storage: images.storage, port: 5000 });
  writeNodeFiles(registry.address);
  const child = spawn(file, args, { stdio: 'inherit' });
  try {
    return await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => resolve(code ?? (signal === null ? 1 : 128)));
    });
  } finally {
    // Here, because the hugetlb hierarchy is only seen inside. Groups of pods are the kubelet's to remove, so ours.
    removeCgroups(stageCgroup());
  }
}
