import assert from 'node:assert/strict';
import { test } from 'node:test';
import { convertProfile } from './convert-seccomp.ts';
import { parseSeccompProfile } from './parse-seccomp.ts';
import { defaultProfile } from './seccomp-default.ts';

function actionOf(syscall: string, capabilities: string[], architecture = 'amd64'): string {
  const converted = convertProfile(defaultProfile, { architecture, capabilities });
  const rule = converted?.syscalls?.find(({ names, args }) => names.includes(syscall) && args === undefined);
  return rule?.action ?? converted?.defaultAction ?? '';
}

test('the default profile follows the capabilities', () => {
  assert.equal(actionOf('bpf', []), 'SCMP_ACT_ERRNO');
  assert.equal(actionOf('bpf', ['CAP_BPF']), 'SCMP_ACT_ALLOW');
  assert.equal(actionOf('bpf', ['CAP_SYS_ADMIN']), 'SCMP_ACT_ALLOW');
  assert.equal(actionOf('chroot', ['CAP_SYS_CHROOT']), 'SCMP_ACT_ALLOW');
  assert.equal(actionOf('clone3', ['CAP_SYS_ADMIN']), 'SCMP_ACT_ALLOW');
  assert.equal(actionOf('unshare', []), 'SCMP_ACT_ERRNO');
});

test('the default profile follows the architecture', () => {
  assert.equal(actionOf('arch_prctl', [], 'amd64'), 'SCMP_ACT_ALLOW');
  assert.equal(actionOf('arch_prctl', [], 'arm64'), 'SCMP_ACT_ERRNO');
  const { architectures } = convertProfile(defaultProfile, { architecture: 'arm64', capabilities: [] }) ?? {};
  assert.deepEqual(architectures, ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']);
  assert.equal(convertProfile(defaultProfile, { architecture: 'riscv64', capabilities: [] })?.architectures, undefined);
});

test('the default profile allows 367 system calls to everybody', () => {
  const largest = Math.max(...defaultProfile.syscalls.map(({ names }) => names.length));
  assert.equal(largest, 367);
});

test('an errno by name wins over a number', () => {
  const profile = parseSeccompProfile(
    JSON.stringify({
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrno: 'ENOSYS',
      syscalls: [{ name: 'kill', action: 'SCMP_ACT_ERRNO', errno: 'EPERM', errnoRet: 5 }],
    }),
  );
  const converted = convertProfile(profile, { architecture: 'amd64', capabilities: [] });
  assert.equal(converted?.defaultErrnoRet, 38);
  assert.deepEqual(converted?.syscalls, [{ names: ['kill'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }]);
});

test('a profile that says nothing is none', () => {
  assert.equal(convertProfile(parseSeccompProfile('{}'), { architecture: 'amd64', capabilities: [] }), undefined);
});

test('parseSeccompProfile keeps all 64 bits of a value', () => {
  const text =
    '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_KILL","args":[{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]}]}';
  assert.equal(parseSeccompProfile(text).syscalls[0]?.args?.[0]?.value, 18446744073709551615n);
});

test('parseSeccompProfile refuses what it cannot mean', () => {
  const bad = [
    '[]',
    'x',
    '{"syscalls":5}',
    '{"syscalls":[{"name":"a","names":["b"]}]}',
    '{"architectures":["a"],"archMap":[{"architecture":"b"}]}',
  ];
  for (const text of bad) assert.throws(() => parseSeccompProfile(text), { kind: 'invalid' }, text);
});
