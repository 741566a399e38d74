import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { after, test } from 'node:test';
import { Call } from '../base/call.ts';
import { silentLog } from '../base/log.ts';
import { startReaper } from '../sys/reaper.ts';
import { createOciRuntime, withoutUnset } from './oci.ts';
import type { ContainerRuntime } from './runtime.ts';

const reaper = startReaper();
const folder = mkdtempSync(`${tmpdir()}/crio-ts-oci-`);
after(() => {
  reaper[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});
const call = new Call({ name: 'test', id: '1', log: silentLog });

/** A runtime that is a shell script and knows the container ID. */
function scripted(name: string, body: string): ContainerRuntime {
  const path = `${folder}/${name}`;
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
  mkdirSync(`${folder}/root/ID`, { recursive: true });
  return createOciRuntime({
    command: {
      handler: name,
      path,
      root: `${folder}/root`,
      systemdCgroup: false,
      env: { PATH: '/usr/bin:/bin' },
      cpuset: '',
    },
    monitor: {
      path: '',
      exitsDir: '',
      attachSocketDir: '',
      logLevel: '',
      logSizeMax: -1,
      logToJournald: false,
      noPivot: false,
      noSyncLog: false,
    },
    features: { version: '', ociVersion: '1.0.0', recursiveReadOnlyMounts: false, idmapMounts: false },
    processesOf: () => [],
    limits: { start: 100, delete: 100, other: 100 },
  });
}

test('a runtime that hangs is killed, and the error says what took how long', async () => {
  const runtime = scripted('hanging', 'sleep 60');
  const verbs = {
    start: () => runtime.start(call, 'ID'),
    delete: () => runtime.delete(call, 'ID'),
    kill: () => runtime.kill(call, 'ID', 9),
    state: () => runtime.state(call, 'ID'),
    pause: () => runtime.pause(call, 'ID'),
    resume: () => runtime.resume(call, 'ID'),
    update: () => runtime.update(call, 'ID', {}),
  };
  for (const [verb, run] of Object.entries(verbs)) {
    const message = `${verb} container "ID": ${folder}/hanging did not end within 0.1 s`;
    await assert.rejects(run(), { kind: 'deadline', message });
  }
});

test('a deletion that fails because something else does not exist has failed', async () => {
  const runtime = scripted('failing', 'echo "error executing hook: /opt/hook does not exist" >&2; exit 1');
  await assert.rejects(runtime.delete(call, 'ID'), { kind: 'unknown', message: /hook does not exist: exit status 1$/ });
});

test('killing or deleting a container that the runtime does not know is success', async () => {
  const text = `error opening file \\\`${folder}/root/ID/status\\\`: No such file or directory`;
  const runtime = scripted('unknowing', `echo "${text}" >&2; exit 1`);
  await runtime.kill(call, 'ID', 9);
  await runtime.delete(call, 'ID');
  await assert.rejects(runtime.start(call, 'ID'), { kind: 'unknown' });
});

/** Fails as often as `folder/busy` says, as runc does, then starts a command that ends with 7. */
const busyScript = (folder: string) => `
left=$(cat ${folder}/busy); echo $((left - 1)) >${folder}/busy
while [ $# -gt 0 ]; do
  case $1 in --log) log=$2 ;; --pid-file) pid=$2 ;; esac
  shift
done
if [ "$left" -gt 0 ]; then
  echo '{"level":"fatal","msg":"nsexec: could not ensure we are a cloned binary: Device or resource busy","time":"t"}' >$log
  echo '{"level":"error","msg":"exec failed: unable to start container process: EOF","time":"t"}' >>$log
  exit 1
fi
sh -c 'exit 7' & echo $! >$pid`;

test('an exec whose runtime finds its binary busy is tried again, a few times', async () => {
  const runtime = scripted('cloning', busyScript(folder));
  const process = { user: { uid: 0, gid: 0 }, args: ['x'], cwd: '/' };
  const options = { id: 'ID', process, timeoutMs: 5000, maxOutputBytes: 1000 };
  writeFileSync(`${folder}/busy`, '2');
  assert.equal((await runtime.execSync(call, options)).exitCode, 7);
  assert.equal(readFileSync(`${folder}/busy`, 'utf8'), '-1\n');
  writeFileSync(`${folder}/busy`, '100');
  await assert.rejects(
    runtime.execSync(call, options),
    /exec failed: .*EOF: nsexec: could not ensure we are a cloned binary: Device or resource busy/,
  );
  assert.equal(readFileSync(`${folder}/busy`, 'utf8'), '96\n');
});

test('another failure is not tried again', async () => {
  const runtime = scripted('once', `echo x >>${folder}/tries; exit 1`);
  const process = { user: { uid: 0, gid: 0 }, args: ['x'], cwd: '/' };
  const options = { id: 'ID', process, stdin: false, stdout: true, stderr: false, owner: { uid: 0, gid: 0 } };
  await assert.rejects(runtime.execStream(call, options), /exit status 1/);
  assert.equal(readFileSync(`${folder}/tries`, 'utf8'), 'x\n');
});

test('withoutUnset leaves out zeros that mean "not set", and only these', () => {
  assert.deepEqual(
    withoutUnset({
      memory: { limit: 0, reservation: 5, swap: 0, disableOOMKiller: false },
      cpu: { shares: 0, quota: -1, period: 100000, cpus: '0' },
      pids: { limit: 0 },
    }),
    {
      memory: { reservation: 5, disableOOMKiller: false },
      cpu: { quota: -1, period: 100000, cpus: '0' },
      pids: { limit: 0 },
    },
  );
  assert.deepEqual(withoutUnset({}), {});
});
