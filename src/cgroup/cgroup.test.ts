import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import fc from 'fast-check';
import { openCgroups } from './cgroups.ts';
import { parseCgroupMounts, planHierarchies } from './hierarchies.ts';
import { parseCount, parseExact, parseFlatKeyed, parseLimit, parseProcCgroup, parseProcs } from './parse.ts';
import { expandSlice, parentPath, resolveCgroupsPath } from './path.ts';
import { readCgroupStats } from './stats-files.ts';

const hybrid = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/my\\040memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
`;

test('planHierarchies sorts v1 mounts by controller and counts shared ones once', () => {
  const plan = planHierarchies(parseCgroupMounts(hybrid), () => '');
  assert.equal(plan.version, 'hybrid');
  assert.equal(plan.controllers.get('cpuacct'), '/sys/fs/cgroup/cpu,cpuacct');
  assert.equal(plan.controllers.get('memory'), '/sys/fs/cgroup/my memory');
  assert.equal(plan.controllers.has('hugetlb'), false);
  assert.deepEqual(plan.roots, ['/sys/fs/cgroup/cpu,cpuacct', '/sys/fs/cgroup/my memory', '/sys/fs/cgroup/systemd']);
});

test('planHierarchies knows v2 by the only mount and takes its controllers', () => {
  const mounts = parseCgroupMounts('41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n');
  const plan = planHierarchies(mounts, () => 'cpuset cpu io memory\n');
  assert.equal(plan.version, 'v2');
  assert.deepEqual([...plan.controllers.keys()], ['cpuset', 'cpu', 'io', 'memory']);
  assert.deepEqual(plan.roots, ['/sys/fs/cgroup']);
  assert.throws(() => planHierarchies([], () => ''), /neither cgroup nor cgroup2/);
});

test('parseCgroupMounts takes any text', () => {
  fc.assert(fc.property(fc.string(), (text) => void parseCgroupMounts(`${text} - cgroup ${text}`)));
});

test('parseLimit reads numbers, max and the huge value of v1', () => {
  assert.equal(parseLimit('67108864\n'), 67108864);
  assert.equal(parseLimit('max\n'), Infinity);
  assert.equal(parseLimit('9223372036854771712\n'), Infinity);
  assert.equal(parseLimit('-1'), undefined);
  assert.equal(parseLimit(''), undefined);
});

test('parseFlatKeyed gives back every line it was given', () => {
  const key = fc.stringMatching(/^[a-z_]{1,20}$/);
  fc.assert(
    fc.property(fc.dictionary(key, fc.nat()), (values) => {
      const text = Object.entries(values).map(([name, value]) => `${name} ${value}\n`);
      assert.deepEqual(Object.fromEntries(parseFlatKeyed(text.join(''))), { ...values });
    }),
  );
});

test('the number parsers take any text', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      for (const parser of [parseLimit, parseCount]) assert.ok(!Number.isNaN(parser(text)));
      parseExact(text);
      parseFlatKeyed(text);
      assert.ok(parseProcs(text).every((pid) => pid > 0));
      parseProcCgroup(text);
    }),
  );
});

test('parseExact keeps all 64 bits', () => {
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => parseExact(`${value}\n`) === value));
});

test('parseProcCgroup reads v1, named and v2 lines', () => {
  const paths = parseProcCgroup('4:memory:/a:b\n2:cpu,cpuacct:/c\n1:name=systemd:/\n0::/d\n');
  assert.deepEqual(
    [...paths],
    [
      ['memory', '/a:b'],
      ['cpu', '/c'],
      ['cpuacct', '/c'],
      ['name=systemd', '/'],
      ['', '/d'],
    ],
  );
});

test('resolveCgroupsPath knows both forms and never leaves the hierarchy', () => {
  assert.equal(resolveCgroupsPath('/kubepods/pod1/crio-x'), '/kubepods/pod1/crio-x');
  assert.equal(
    resolveCgroupsPath('kubepods-burstable.slice:crio:x'),
    '/kubepods.slice/kubepods-burstable.slice/crio-x.scope',
  );
  assert.throws(() => resolveCgroupsPath('/a/../../b'), /"\.\." is not allowed/);
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        assert.match(resolveCgroupsPath(text), /^\//);
        assert.doesNotMatch(resolveCgroupsPath(`/${text.replaceAll(':', '')}`), /(^|\/)\.\.(\/|$)/);
      } catch (error) {
        assert.match(String(error), /not allowed/);
      }
    }),
  );
});

test('expandSlice follows the dashes', () => {
  assert.equal(expandSlice('a-b-c.slice'), '/a.slice/a-b.slice/a-b-c.slice');
  assert.equal(expandSlice('-.slice'), '');
  assert.equal(parentPath('systemd', '/x/a-b.slice'), '/a.slice/a-b.slice');
  assert.equal(parentPath('cgroupfs', 'kubepods/pod1/'), '/kubepods/pod1');
});

test('processes reads all pids of a cgroup and those below it, however many they are', () => {
  const root = mkdtempSync(`${tmpdir()}/crio-ts-cgroup-`);
  try {
    const pids = Array.from({ length: 20_000 }, (_, index) => 4_100_000 + index);
    mkdirSync(`${root}/c/below`, { recursive: true });
    writeFileSync(`${root}/c/cgroup.procs`, pids.map((pid) => `${pid}\n`).join(''));
    writeFileSync(`${root}/c/below/cgroup.procs`, '7\n');
    const hierarchies = { version: 'v2', controllers: new Map(), roots: [root], unified: root } as const;
    const cgroups = openCgroups({ manager: 'cgroupfs', hierarchies });
    assert.deepEqual(cgroups.processes('/c'), [...pids, 7]);
    assert.deepEqual(cgroups.processes('/absent'), []);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('readCgroupStats reads v1 and v2 files, and nothing where there is no cgroup', () => {
  const root = mkdtempSync(`${tmpdir()}/crio-ts-cgroup-`);
  try {
    mkdirSync(`${root}/c`);
    const files = {
      'cpuacct.usage': '32569781\n',
      'memory.usage_in_bytes': '4096000\n',
      'memory.memsw.usage_in_bytes': '5000000\n',
      'memory.stat':
        'rss 1\ntotal_rss 53248\ntotal_inactive_file 96000\ntotal_pgfault 7\nhierarchical_memory_limit 67108864\n',
      'pids.current': '3\n',
      'cpu.stat': 'usage_usec 42\n',
      'memory.current': '1000\n',
      'memory.max': 'max\n',
    };
    for (const [name, text] of Object.entries(files)) writeFileSync(`${root}/c/${name}`, text);
    const controllers = new Map(['cpuacct', 'memory', 'pids'].map((name) => [name, root]));
    const v1 = readCgroupStats({ version: 'v1', controllers, roots: [root], unified: undefined }, '/c');
    assert.equal(v1?.cpuUsageNs, 32569781n);
    assert.equal(v1?.memory?.workingSet, 4000000);
    assert.equal(v1?.memory?.limit, 67108864);
    assert.equal(v1?.memory?.swapLimit, Infinity);
    assert.equal(v1?.pids, 3);
    const v2 = readCgroupStats({ version: 'v2', controllers, roots: [root], unified: root }, '/c');
    assert.equal(v2?.cpuUsageNs, 42000n);
    // The file was overwritten with v1's keys: a missing key counts nothing.
    assert.equal(v2?.memory?.workingSet, 1000);
    assert.equal(v2?.memory?.swapUsage, undefined);
    assert.equal(readCgroupStats({ version: 'v2', controllers, roots: [root], unified: root }, '/absent'), undefined);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('removeCgroup tries a busy cgroup again and gives up with its code', async () => {
  const root = mkdtempSync(`${tmpdir()}/crio-ts-cgroup-`);
  try {
    const hierarchies = {
      version: 'v1' as const,
      controllers: new Map([['cpu', root]]),
      roots: [root],
      unified: undefined,
    };
    const cgroups = openCgroups({ manager: 'cgroupfs', hierarchies });
    await cgroups.createCgroup('/a/b/c');
    // On a plain file system a file makes rmdir fail as a process does in a cgroup.
    writeFileSync(`${root}/a/b/busy`, '');
    await assert.rejects(cgroups.removeCgroup('/a', { retryMs: 10 }), /remove cgroup "\/a": ENOTEMPTY/);
    setTimeout(() => rmSync(`${root}/a/b/busy`), 30);
    await cgroups.removeCgroup('/a');
    await cgroups.removeCgroup('/a');
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
