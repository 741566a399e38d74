import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { SecurityProfile } from '../pod/config.ts';
import { defaultProfile } from '../runtime/spec/seccomp-default.ts';
import { type ApparmorRequest, chooseApparmor } from './apparmor.ts';
import { chooseSeccomp, type SeccompRequest } from './seccomp-profiles.ts';

const folder = mkdtempSync(join(tmpdir(), 'profiles-'));
after(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'profile.json');
writeFileSync(file, '{"defaultAction":"SCMP_ACT_LOG"}');

const runtimeDefault: SecurityProfile = { type: 'runtime-default', localhostRef: '' };

function seccomp(change: Partial<SeccompRequest>) {
  return chooseSeccomp({
    profile: runtimeDefault,
    privileged: false,
    isInfra: false,
    isEnabled: true,
    runtimeDefaultPath: '',
    privilegedPath: '',
    ...change,
  });
}

test('chooseSeccomp names what it has chosen', async () => {
  assert.deepEqual(await seccomp({}), { profile: defaultProfile, path: 'RuntimeDefault' });
  assert.deepEqual(await seccomp({ profile: undefined }), { profile: undefined, path: '' });
  assert.deepEqual(await seccomp({ profile: { type: 'unconfined', localhostRef: '' } }), {
    profile: undefined,
    path: 'Unconfined',
  });
  const local = await seccomp({ profile: { type: 'localhost', localhostRef: file } });
  assert.equal(local.profile?.defaultAction, 'SCMP_ACT_LOG');
  assert.equal(local.path, file);
});

test('chooseSeccomp reads the configured profile, and the built-in one when that is gone', async () => {
  assert.equal((await seccomp({ runtimeDefaultPath: file })).profile?.defaultAction, 'SCMP_ACT_LOG');
  assert.equal((await seccomp({ runtimeDefaultPath: join(folder, 'none') })).profile, defaultProfile);
});

test('chooseSeccomp refuses local profiles it cannot load', async () => {
  const missing = join(folder, 'none.json');
  const profile: SecurityProfile = { type: 'localhost', localhostRef: missing };
  await assert.rejects(seccomp({ profile }), new RegExp(`unable to load local profile "${missing}": ENOENT`));
  await assert.rejects(seccomp({ profile, isEnabled: false }), {
    message: 'seccomp is not enabled, cannot run with custom profile',
  });
  const giant = join(folder, 'giant.json');
  writeFileSync(giant, '');
  truncateSync(giant, 2 ** 40);
  await assert.rejects(seccomp({ profile: { type: 'localhost', localhostRef: giant } }), /larger than/);
});

test('chooseSeccomp leaves privileged containers alone, and confines the infra container', async () => {
  assert.equal((await seccomp({ privileged: true })).profile, undefined);
  assert.equal((await seccomp({ privileged: true, isInfra: true })).profile, defaultProfile);
  assert.equal((await seccomp({ privileged: true, privilegedPath: file })).profile?.defaultAction, 'SCMP_ACT_LOG');
});

test('chooseSeccomp goes on without seccomp in the kernel', async () => {
  assert.equal((await seccomp({ isEnabled: false })).profile, undefined);
});

function apparmor(change: Partial<ApparmorRequest>): string | undefined {
  return chooseApparmor({
    profile: undefined,
    deprecated: '',
    privileged: false,
    isEnabled: true,
    defaultProfile: 'crio-default',
    ...change,
  });
}

test('chooseApparmor takes the field, then the older string, then the default', () => {
  assert.equal(apparmor({}), 'crio-default');
  assert.equal(apparmor({ deprecated: 'localhost/mine' }), 'mine');
  assert.equal(apparmor({ deprecated: 'unconfined' }), undefined);
  assert.equal(apparmor({ deprecated: 'unconfined', profile: { type: 'localhost', localhostRef: 'mine' } }), 'mine');
  assert.equal(apparmor({ deprecated: 'runtime/default', defaultProfile: 'unconfined' }), undefined);
  assert.throws(() => apparmor({ deprecated: 'localhost/' }), {
    message: 'empty localhost AppArmor profile is forbidden',
  });
});

test('chooseApparmor is for unprivileged containers on hosts that have it', () => {
  assert.equal(apparmor({ privileged: true }), undefined);
  assert.equal(apparmor({ isEnabled: false, deprecated: 'localhost/' }), undefined);
});
