/** `make stop`: ends what `make run` started and takes away all that it set up. */
import { existsSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '../client/client.ts';
import { removeAllPods } from '../client/pods.ts';
import { run } from '../fixtures/process.ts';
import { removeCgroups } from './cgroups.ts';
import {
  belongsTo,
  forwardFile,
  links,
  otherCheckout,
  recordFile,
  runFolder,
  runSocket,
  sideFolders,
  tables,
  volatileFolder,
  type Before,
} from './run-state.ts';

const other = otherCheckout();
if (other !== undefined) {
  console.error(`stop: ${belongsTo(other)}`);
  process.exitCode = 1;
} else if (existsSync(recordFile)) await takeDown();
else console.log('Nothing to stop.');

async function takeDown(): Promise<void> {
  // Written by `make run`.
  const before = JSON.parse(readFileSync(recordFile, 'utf8')) as Before;
  await removePods();
  await endSupervisor(before.supervisor);
  for (const link of links()) {
    if (!before.links.includes(link) && /^(crio-ts0|cni-|veth)/.test(link))
      run('ip', ['link', 'delete', link], { allow: [1] });
  }
  for (const table of tables()) {
    if (!before.tables.includes(table) && isEmptyTable(table)) run('nft', ['delete', 'table', ...table.split(' ')]);
  }
  writeFileSync(forwardFile, before.ipForward);
  removeCgroups('crio-ts');
  for (const folder of sideFolders) if (!before.folders.includes(folder)) removeEmpty(folder);
  for (const folder of [volatileFolder, runFolder])
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
  console.log('Stopped; nothing is left.');
}

async function removePods(): Promise<void> {
  using client = connect(runSocket);
  try {
    await client.runtime.version({}, { timeoutMs: 3000 });
  } catch {
    console.log('The daemon does not answer; its processes are ended without it.');
    return;
  }
  await removeAllPods(client);
}

/** The supervisor is the subreaper of all that was started, so its end is the end of everything. */
async function endSupervisor(pid: number): Promise<void> {
  const alive = (): boolean =>
    existsSync(`/proc/${pid}/cmdline`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(runFolder);
  if (!alive()) return;
  process.kill(pid, 'SIGTERM');
  for (let tries = 0; alive() && tries < 200; tries++) await sleep(100);
  if (alive()) throw new Error(`end process ${pid}: still there after 20 s`);
}

/** True when no chain of the table holds a rule. */
function isEmptyTable(table: string): boolean {
  const text = run('nft', ['list', 'table', ...table.split(' ')]);
  return text.split('\n').every((line) => /^\s*(table .*\{|chain .*\{|type .*|\}|)$/.test(line));
}

function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (
      !(
        error instanceof Error &&
        'code' in error &&
        (error.code === 'ENOTEMPTY' || error.code === 'EBUSY' || error.code === 'ENOENT')
      )
    )
      throw error;
  }
}
