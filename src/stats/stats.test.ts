import assert from 'node:assert/strict';
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import fc from 'fast-check';
import { systemClock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import { openCgroups } from '../cgroup/cgroups.ts';
import type { Container } from '../container/container.ts';
import type { Pod } from '../pod/pod.ts';
import { CpuRates } from './cpu-rates.ts';
import { createStats } from './create-stats.ts';
import { LayerUsage } from './layer-usage.ts';
import { parseNetDev } from './net-dev.ts';
import { walkUsage } from './walk-usage.ts';

test('parseNetDev reads the columns that count', () => {
  const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 18446744073709551615       1    2    0    0     0          0         0      7       1    9    0    0     0       0          0
`;
  const [lo, eth0] = parseNetDev(text);
  assert.equal(lo?.name, 'lo');
  assert.deepEqual(eth0, { name: 'eth0', rxBytes: 2n ** 64n - 1n, rxErrors: 2n, txBytes: 7n, txErrors: 9n });
});

test('parseNetDev takes any text', () => {
  fc.assert(fc.property(fc.string(), (text) => void parseNetDev(text)));
});

test('CpuRates needs an earlier sample, and keeps its answer when asked again at once', () => {
  const rates = new CpuRates();
  const owner = {};
  assert.equal(rates.update(owner, 1_000_000_000n, 500n), undefined);
  assert.equal(rates.update(owner, 2_000_000_000n, 500_000_500n), 500_000_000n);
  assert.equal(rates.update(owner, 2_000_000_001n, 600_000_000n), 500_000_000n);
  assert.equal(rates.update({}, 3n, 3n), undefined);
});

test('CpuRates never goes negative', () => {
  const sample = fc.record({
    at: fc.bigInt({ min: 0n, max: 2n ** 62n }),
    used: fc.bigInt({ min: 0n, max: 2n ** 62n }),
  });
  fc.assert(
    fc.property(fc.array(sample), (samples) => {
      const rates = new CpuRates();
      const owner = {};
      for (const { at, used } of samples) assert.ok((rates.update(owner, at, used) ?? 0n) >= 0n);
    }),
  );
});

test('walkUsage counts inodes of everything and bytes of files, a file with two names once, and follows no symlink', async () => {
  const root = mkdtempSync(`${tmpdir()}/crio-ts-walk-`);
  try {
    mkdirSync(`${root}/a/b`, { recursive: true });
    writeFileSync(`${root}/a/file`, 'x'.repeat(1000));
    linkSync(`${root}/a/file`, `${root}/a/b/again`);
    symlinkSync('/proc', `${root}/proc`);
    assert.deepEqual(await walkUsage(root, async () => {}), { bytes: 1000 + '/proc'.length, inodes: 4 });
    assert.deepEqual(await walkUsage(`${root}/absent`, async () => {}), { bytes: 0, inodes: 0 });
    assert.deepEqual(await walkUsage(`${root}/proc`, async () => {}), { bytes: 0, inodes: 0 });
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('LayerUsage answers from its last walk and does not walk again soon', async () => {
  const root = mkdtempSync(`${tmpdir()}/crio-ts-walk-`);
  try {
    const usage = new LayerUsage({ clock: systemClock, log: silentLog });
    const owner = {};
    assert.equal(usage.get(owner, root), undefined);
    await usage.settled();
    const first = usage.get(owner, root);
    assert.equal(first?.inodes, 0);
    writeFileSync(`${root}/new`, '');
    await usage.settled();
    assert.deepEqual(usage.get(owner, root), first);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('the first statistics of many pods wait once for their layers, not once for each', async () => {
  const root = mkdtempSync(`${tmpdir()}/crio-ts-walk-`);
  try {
    let waits = 0;
    const stats = createStats({
      cgroups: openCgroups({
        manager: 'cgroupfs',
        hierarchies: { version: 'v2', controllers: new Map(), roots: [root], unified: root },
      }),
      containersOf: (podId) => [{ id: `${podId}-c`, spec: {}, state: { status: 'running' } } as Container],
      upperDirectory: () => root,
      collectionPeriod: 0,
      log: silentLog,
      clock: {
        ...systemClock,
        async sleep() {
          waits++;
        },
      },
    });
    // The members that are read here.
    const pods = ['a', 'b', 'c', 'd'].map(
      (id) => ({ id, isReady: true, cgroupParent: '', namespacePaths: new Map() }) as unknown as Pod,
    );
    assert.equal((await stats.ofPods(pods)).length, pods.length);
    assert.equal(waits, 1);
  } finally {
    rmSync(root, { recursive: true });
  }
});
