import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MS_NODEV, MS_RDONLY } from '../../sys/mount.ts';
import { newShortLink } from './layer-dirs.ts';
import { planMount } from './mount-plan.ts';

const input = {
  lowers: ['/s/l/A', '/s/l/B'],
  upper: '/s/x/diff',
  work: '/s/x/work',
  options: [],
  isVolatile: true,
  label: '',
};

test('planMount writes options in the order of the format', () => {
  assert.deepEqual(planMount({ ...input, options: ['nodev', 'metacopy=on'], label: 'system_u:object_r:c:s0:c1,c2' }), {
    flags: MS_NODEV,
    data: 'lowerdir=/s/l/A:/s/l/B,upperdir=/s/x/diff,workdir=/s/x/work,metacopy=on,volatile,context="system_u:object_r:c:s0:c1,c2"',
  });
});

test('planMount without an upper folder is read-only and never volatile', () => {
  assert.deepEqual(planMount({ ...input, upper: undefined, work: undefined }), {
    flags: MS_RDONLY,
    data: 'lowerdir=/s/l/A:/s/l/B',
  });
});

test('planMount escapes what would end a path', () => {
  const { data } = planMount({ ...input, lowers: ['/a:b,c\\d'], upper: '/u,v', work: '/w', isVolatile: false });
  assert.equal(data, 'lowerdir=/a\\:b\\,c\\\\d,upperdir=/u\\,v,workdir=/w');
});

test('planMount refuses more layers than the kernel takes', () => {
  assert.throws(() => planMount({ ...input, lowers: Array.from({ length: 501 }, () => '/x') }), /at most 500/);
});

test('newShortLink gives 26 characters of base32', () => {
  for (let round = 0; round < 50; round++) assert.match(newShortLink(), /^[A-Z2-7]{26}$/);
});
