import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { capabilityNames } from '../../sys/process.ts';
import { type CapabilityRequest, chooseCapabilities } from './capabilities.ts';

const base: CapabilityRequest = {
  privileged: false,
  add: [],
  drop: [],
  defaults: ['CAP_CHOWN', 'CAP_KILL'],
  addInheritable: false,
  kernel: capabilityNames,
  allowed: capabilityNames,
};

test('chooseCapabilities takes names with and without prefix in any case', () => {
  const { bounding } = chooseCapabilities({ ...base, add: ['net_admin', 'CAP_SYS_TIME'], drop: ['Kill'] });
  assert.deepEqual(bounding, ['CAP_NET_ADMIN', 'CAP_SYS_TIME', 'CAP_CHOWN']);
});

test('chooseCapabilities refuses unknown names with their canonical form', () => {
  assert.throws(() => chooseCapabilities({ ...base, add: ['foo'] }), {
    message: 'unknown capability "CAP_FOO" to add',
  });
  assert.throws(() => chooseCapabilities({ ...base, drop: ['foo'] }), {
    message: 'unknown capability "CAP_FOO" to drop',
  });
});

test('chooseCapabilities leaves the defaults out when all are dropped', () => {
  const { bounding } = chooseCapabilities({ ...base, drop: ['ALL'], add: ['NET_RAW'] });
  assert.deepEqual(bounding, ['CAP_NET_RAW']);
});

test('chooseCapabilities gives all but the dropped ones when all are added', () => {
  const { bounding } = chooseCapabilities({ ...base, add: ['all'], drop: ['CHOWN'] });
  assert.deepEqual(bounding, capabilityNames.slice(1));
});

test('chooseCapabilities gives a privileged container all five sets', () => {
  const sets = chooseCapabilities({ ...base, privileged: true });
  const { bounding, effective, inheritable, permitted, ambient } = sets;
  for (const set of [bounding, effective, inheritable, permitted, ambient]) assert.deepEqual(set, capabilityNames);
});

test('CVE-2022-27652, CVE-2022-29162: inheritable and ambient sets stay empty', () => {
  const sets = chooseCapabilities({ ...base, add: ['ALL'] });
  assert.equal(sets.inheritable, undefined);
  assert.equal(sets.ambient, undefined);
});

test('chooseCapabilities never gives more than the daemon has, whatever is asked', () => {
  const names = fc.array(fc.constantFrom(...capabilityNames, 'ALL'));
  const some = fc.subarray([...capabilityNames]);
  fc.assert(
    fc.property(names, names, some, fc.boolean(), (add, drop, allowed, privileged) => {
      const { bounding = [] } = chooseCapabilities({ ...base, add, drop, allowed, privileged });
      assert.ok(bounding.every((name) => allowed.includes(name)));
      assert.equal(new Set(bounding).size, bounding.length);
      if (!privileged) assert.ok(bounding.every((name) => !drop.includes(name)));
    }),
  );
});
