import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CrioError } from '../base/errors.ts';
import { Logger, silentLog } from '../base/log.ts';
import { defaultConfig, emptyHandler, fieldsOf, groupNames, optionsOf } from './config.ts';
import { decodeFile } from './decode.ts';
import { withoutEffect } from './effect.ts';
import { globalFlags } from './flags.ts';
import type { Workload, WorkloadResources } from './handler.ts';
import { realHost } from './host.ts';
import type { Host } from './host.ts';
import { hostDefaults, loadConfig } from './load.ts';
import { editDistance, nearest } from './nearest.ts';
import { groups, handlerOptions, resourceOptions, workloadOptions } from './options.ts';
import { parseFlags } from './parse-flags.ts';
import { printEffective } from './print-effective.ts';
import { printTemplate } from './print-template.ts';
import { reloadConfig } from './reload.ts';
import { parseStorageConf, storageWarnings } from './storage-conf.ts';
import { quoteToml } from './toml-text.ts';
import { validateFull, validateLight } from './validate.ts';

/** A host with these files; folders are known from the paths, `x:` marks an executable. */
function hostWith(files: Readonly<Record<string, string>>, env: Readonly<Record<string, string>> = {}): Host {
  const paths = Object.keys(files);
  const isFolder = (path: string) => paths.some((file) => file.startsWith(`${path}/`));
  return {
    env: { PATH: '/usr/bin', ...env },
    readFile(path) {
      const text = files[path];
      if (text === undefined)
        throw Object.assign(new Error(`no ${path}`), { code: isFolder(path) ? 'EISDIR' : 'ENOENT' });
      return Buffer.from(text);
    },
    typeOf: (path) => (path in files ? 'file' : isFolder(path) ? 'directory' : undefined),
    list(path) {
      const names = new Set(
        paths
          .filter((file) => file.startsWith(`${path}/`))
          .map((file) => file.slice(path.length + 1).split('/')[0] ?? ''),
      );
      return [...names].sort().map((name) => ({ name, isDirectory: isFolder(`${path}/${name}`) }));
    },
    isExecutable: (path) => files[path] === 'x:',
  };
}

const programs = { '/usr/bin/crun': 'x:', '/usr/bin/runc': 'x:', '/usr/bin/conmon': 'x:' };

function load(
  files: Readonly<Record<string, string>>,
  args: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
) {
  const host = hostWith(files, env);
  const flags = parseFlags(globalFlags, args, host.env).values;
  return { host, ...loadConfig(host, flags, silentLog) };
}

function decode(text: string) {
  return decodeFile(defaultConfig(), 'crio.conf', Buffer.from(text));
}

function errorOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof CrioError);
    return error.message;
  }
  return assert.fail('nothing was thrown');
}

test('the table holds 156 options in files and 140 flags, 116 of them with a variable', () => {
  const plain = groupNames
    .flatMap((group) => optionsOf(group))
    .filter(([, { type }]) => type !== 'handlers' && type !== 'workloads');
  const nested = [handlerOptions, workloadOptions, resourceOptions].flatMap((options) => Object.values(options));
  assert.equal(plain.length + nested.filter(({ type }) => type !== 'resources').length, 156);
  assert.equal(globalFlags.length, 140);
  assert.equal(globalFlags.filter(({ env }) => env.length > 0).length, 116);
  assert.equal(globalFlags.filter(({ hidden }) => hidden).length, 4);
  assert.equal(new Set(globalFlags.flatMap(({ name, aliases }) => [name, ...aliases])).size, 140 + 6);
});

test('sixteen options are reloadable', () => {
  const reloadable = groupNames.flatMap((group) => optionsOf(group)).filter(([, option]) => option.reloadable === true);
  assert.equal(reloadable.length, 16);
});

test('table entries have the fields of their types', () => {
  const workload: Workload = {
    activationAnnotation: '',
    annotationPrefix: '',
    allowedAnnotations: [],
    resources: undefined,
  };
  const resources: WorkloadResources = { cpushares: 0, cpuquota: 0, cpuperiod: 0, cpuset: '', cpulimit: 0 };
  assert.deepEqual(fieldsOf(workloadOptions), workload);
  assert.deepEqual(fieldsOf(resourceOptions), resources);
  assert.equal(Object.keys(emptyHandler()).length, 20);
});

test('decodeFile sets options, keeps the rest and remembers where each came from', () => {
  const { config, warnings, origins } = decode(
    '[crio.runtime]\nlog_level = "debug"\n[crio.image]\npull_progress_timeout = 1500000000\n',
  );
  assert.equal(config.runtime.logLevel, 'debug');
  assert.equal(config.image.pullProgressTimeoutMs, 1500);
  assert.equal(config.api.listen, '/var/run/crio/crio.sock');
  assert.deepEqual(warnings, []);
  assert.equal(origins.get('crio.runtime.log_level'), 'crio.conf:2');
});

test('decodeFile warns of an unknown key with file, line and the nearest known key', () => {
  assert.deepEqual(decode('[crio.runtime]\nlog_levl = "debug"').warnings, [
    'crio.conf:2: unknown key "crio.runtime.log_levl" is ignored; did you mean "log_level"?',
  ]);
  assert.deepEqual(decode('[crio.runtime]\npause_image = "a"').warnings, [
    'crio.conf:2: unknown key "crio.runtime.pause_image" is ignored; it belongs to [crio.image]',
  ]);
  assert.deepEqual(decode('[crio.runtime.runtimes.runc]\nruntime_pth = "a"').warnings, [
    'crio.conf:2: unknown key "crio.runtime.runtimes.runc.runtime_pth" is ignored; did you mean "runtime_path"?',
  ]);
  assert.deepEqual(decode('[crio.runtme]\nx = 1').warnings, [
    'crio.conf:1: unknown key "crio.runtme" is ignored; did you mean "runtime"?',
  ]);
  assert.deepEqual(decode('[crio]\ndefault_mounts = []').warnings, [
    'crio.conf:2: unknown key "crio.default_mounts" is ignored',
  ]);
});

test('decodeFile refuses a wrong type with file, line and column', () => {
  const wrong = (text: string) => errorOf(() => decode(`[crio.runtime]\n${text}`));
  assert.match(
    wrong('log_level = 5'),
    /^unable to decode configuration crio\.conf: toml: line 2, column 13 \(last key "crio\.runtime\.log_level"\): /,
  );
  assert.match(wrong('drop_infra_ctr = 1'), /integer; destination has type boolean$/);
  assert.match(wrong('ctr_stop_timeout = 1.0'), /float; destination has type integer$/);
  assert.match(wrong('default_env = "a"'), /destination has type array of strings$/);
  assert.match(wrong('default_env = ["a",\n 1]'), /line 3, column 2 /);
  assert.match(wrong('pids_limit = 9223372036854775808'), /out of range for int64$/);
  assert.match(wrong('runtimes = 1'), /destination has type table$/);
  assert.match(wrong('[[crio.image]]'), /TOML value has type array/);
  assert.match(
    errorOf(() => decode('crio = 3')),
    /destination has type table$/,
  );
  assert.match(
    errorOf(() => decode('[crio.nri]\nnri_plugin_request_timeout = "2"')),
    /invalid duration "2"$/,
  );
});

test('decodeFile refuses syntax errors, duplicate keys and duplicate tables', () => {
  for (const text of ['[crio', '[crio]\nroot = "a"\nroot = "b"', '[crio]\n[crio]', 'x = "\u0000"', '\xff']) {
    assert.throws(() => decodeFile(defaultConfig(), 'f', Buffer.from(text, 'latin1')), CrioError, text);
  }
});

test('decodeFile matches keys in any case, the exact one first', () => {
  assert.equal(decode('[Crio.RUNTIME]\nLog_Level = "a"').config.runtime.logLevel, 'a');
  assert.equal(decode('[crio.runtime]\nLOG_LEVEL = "a"\nlog_level = "b"').config.runtime.logLevel, 'b');
});

test('a later handler replaces the whole entry, others stay', () => {
  const { config } = decode('[crio.runtime.runtimes.crun]\nruntime_path = "/x"\n[crio.runtime.runtimes.runc]');
  assert.deepEqual([...config.runtime.runtimes.keys()], ['crun', 'runc']);
  assert.deepEqual(config.runtime.runtimes.get('crun'), { ...emptyHandler(), runtimePath: '/x' });
});

test('storage options of files add up, a flag replaces them, and empty paths keep what was there', () => {
  const files = {
    '/etc/containers/storage.conf': '[storage]\ngraphroot = "/g"\n[storage.options.overlay]\nmountopt = "nodev"',
    '/etc/crio/crio.conf': '[crio]\nroot = ""\nstorage_option = ["overlay.size=1", "overlay.mountopt=nodev"]',
    '/etc/crio/crio.conf.d/a': '[crio]\nrunroot = "/r"\nstorage_option = ["overlay.size=1"]',
  };
  const { config } = load(files);
  assert.equal(config.crio.root, '/g');
  assert.equal(config.crio.runroot, '/r');
  assert.deepEqual(config.crio.storageOption, ['overlay.mountopt=nodev', 'overlay.size=1']);
  assert.deepEqual(load(files, ['--storage-opt', 'overlay.a=b']).config.crio.storageOption, ['overlay.a=b']);
  assert.equal(load(files, ['--root', '']).config.crio.root, '');
});

test('drop-ins are read in lexical order whatever their name, below folders too, and flags win', () => {
  const set = (value: string) => `[crio.runtime]\ntimezone = "${value}"`;
  const files = {
    '/d/10/b.bak': set('b'),
    '/d/09-a.conf': set('a'),
    '/d/10/a': set('c'),
  };
  assert.equal(load(files, ['-d', '/d']).config.runtime.timezone, 'b');
  assert.equal(load({ ...files, '/d/20': set('z') }, ['-d', '/d']).config.runtime.timezone, 'z');
  assert.equal(load(files, ['-d', '/d', '--tz', 'x']).config.runtime.timezone, 'x');
  assert.equal(load(files, ['-d', '/d'], { CONTAINER_TIME_ZONE: 'y' }).config.runtime.timezone, 'y');
  assert.equal(load(files, ['-d', '']).config.runtime.timezone, '');
});

test('a missing main file is an error only when it was named', () => {
  assert.ok(load({}));
  assert.match(
    errorOf(() => load({}, ['-c', '/x'])),
    /^read configuration file "\/x": no such file$/,
  );
  assert.match(
    errorOf(() => load({}, [], { CONTAINER_CONFIG: '/y' })),
    /"\/y"/,
  );
});

test('the flag for runtimes replaces an entry and adds others', () => {
  const { config } = load({}, ['--runtimes', 'crun:/c:/root', '--runtimes', 'vm1:/v:/r:vm:true:/conf:1MiB']);
  assert.equal(config.runtime.runtimes.get('crun')?.monitorEnv.length, 0);
  assert.deepEqual(config.runtime.runtimes.get('vm1'), {
    ...emptyHandler(),
    runtimePath: '/v',
    runtimeRoot: '/r',
    runtimeType: 'vm',
    privilegedWithoutHostDevices: true,
    runtimeConfigPath: '/conf',
    containerMinMemory: '1MiB',
  });
  assert.match(
    errorOf(() => load({}, ['--runtimes', 'a:b'])),
    /wrong format/,
  );
  assert.match(
    errorOf(() => load({}, ['--runtimes', 'a:b:c:oci:::1Mi'])),
    /container_min_memory/,
  );
});

test('systemd is the default on paper, and cgroupfs where it does not run and nobody asked for it', () => {
  const quiet = load(programs);
  assert.equal(validateFull(quiet, { host: quiet.host, log: silentLog }).runtime.cgroupManager, 'cgroupfs');
  assert.equal(validateLight(quiet.config, { host: quiet.host, log: silentLog }).runtime.cgroupManager, 'systemd');
  const asked = load(programs, ['--cgroup-manager', 'systemd']);
  assert.match(
    errorOf(() => validateFull(asked, { host: asked.host, log: silentLog })),
    /^validating runtime config: cgroup_manager is "systemd" \(--cgroup-manager\), but systemd does not run on this host$/,
  );
  const there = load({ ...programs, '/run/systemd/system/x': '' }, ['--cgroup-manager', 'systemd']);
  const config = validateFull(there, { host: there.host, log: silentLog });
  assert.equal(config.runtime.cgroupManager, 'systemd');
  assert.equal(config.runtime.runtimes.get('crun')?.monitorCgroup, 'system.slice');
});

test('validateFull fills in handlers, drops those it cannot use, and insists on the default', () => {
  const text =
    '[crio.runtime.runtimes.runc]\n[crio.runtime.runtimes.kata]\nruntime_type = "vm"\n[crio.runtime.runtimes.same]\ninherit_default_runtime = true';
  const loaded = load({ ...programs, '/etc/crio/crio.conf': text });
  const { runtimes } = validateFull(loaded, { host: loaded.host, log: silentLog }).runtime;
  assert.deepEqual([...runtimes.keys()], ['crun', 'runc', 'same']);
  assert.equal(runtimes.get('runc')?.runtimePath, '/usr/bin/runc');
  assert.equal(runtimes.get('runc')?.runtimeRoot, '/run/crun');
  assert.equal(runtimes.get('runc')?.monitorPath, '/usr/bin/conmon');
  assert.equal(runtimes.get('runc')?.monitorCgroup, '');
  assert.equal(runtimes.get('runc')?.containerCreateTimeout, 240);
  assert.equal(runtimes.get('same')?.runtimePath, '/usr/bin/crun');
  const bare = load({ '/usr/bin/conmon': 'x:' });
  assert.match(
    errorOf(() => validateFull(bare, { host: bare.host, log: silentLog })),
    /handler "crun": runtime "crun" is not in \$PATH$/,
  );
});

test('a collector that does not exist is a warning', () => {
  const lines: string[] = [];
  const log = new Logger({ level: 'warn', filter: undefined, format: 'text', write: (line) => lines.push(line) });
  const { config } = decode('[crio.metrics]\nmetrics_collectors = ["operation_total", "crio_operations_total"]');
  validateLight(config, { host: hostWith(programs), log });
  assert.equal(lines.length, 1);
  assert.match(lines.join(''), /"operation_total\\?" is no metric: nothing is collected for it/);
});

test('validateLight names the section and the value', () => {
  const context = { host: hostWith(programs), log: silentLog };
  const check = (group: string, text: string) => () =>
    validateLight(decode(`[crio.${group}]\n${text}`).config, context);
  assert.match(
    errorOf(check('image', 'image_volumes = "x"')),
    /^invalid image_volumes "x": not one of "mkdir", "bind", "ignore"$/,
  );
  assert.match(errorOf(check('image', 'pause_image = "docker://x"')), /^validating image config: invalid pause image/);
  assert.match(
    errorOf(check('runtime', 'default_ulimits = ["nofile=5:3"]')),
    /^validating runtime config: invalid ulimit "nofile=5:3"/,
  );
  assert.match(errorOf(check('runtime', 'default_sysctls = ["a= b"]')), /white space/);
  assert.match(errorOf(check('runtime', 'default_capabilities = ["NO"]')), /invalid capability "NO"/);
  assert.match(errorOf(check('runtime', 'default_runtime = "kata"')), /no runtime entry was found/);
  assert.match(errorOf(check('runtime', 'additional_devices = ["/dev/none"]')), /no such device/);
  assert.match(errorOf(check('runtime', 'timezone = "Mars/X"')), /invalid timezone/);
  assert.match(errorOf(check('runtime', 'log_size_max = 0')), />= 8192/);
  assert.match(
    errorOf(check('runtime.workloads.w', 'annotation_prefix = "a"')),
    /workload "w": activation_annotation is empty/,
  );
  for (const option of ['root', 'runroot', 'imagestore'])
    assert.equal(
      errorOf(() => validateLight(load({}, [`--${option}`, 'rel/x']).config, context)),
      `validating root config: ${option} "rel/x" is not an absolute path`,
    );
  assert.match(errorOf(check('api', 'tls_min_version = "VersionTLS10"')), /^validating api config/);
  assert.match(errorOf(check('api', 'stream_enable_tls = true')), /stream_tls_cert is not set/);
  assert.match(errorOf(check('stats', 'included_pod_metrics = ["all", "cpu"]')), /must stand alone/);
  assert.equal(check('runtime', 'ctr_stop_timeout = 3')().runtime.ctrStopTimeout, 30);
  assert.equal(check('api', 'grpc_max_send_msg_size = 0')().api.grpcMaxSendMsgSize, 83886080);
  assert.equal(check('runtime', 'default_runtime = ""')().runtime.defaultRuntime, 'crun');
  assert.deepEqual(check('network', 'plugin_dir = "/p"')().network.pluginDirs, ['/opt/cni/bin/', '/p']);
});

test('withoutEffect names what is set and comes later, and nothing else', () => {
  const files = {
    '/etc/crio/crio.conf':
      '[crio.stats]\nstats_collection_period = 5\ncollection_period = 0\n[crio.runtime]\nlog_level = "debug"',
  };
  const loaded = load(files);
  assert.deepEqual(withoutEffect(loaded, hostDefaults(loaded.host)), [
    'Option crio.stats.stats_collection_period (/etc/crio/crio.conf:2) is set, but has no effect in this release yet',
  ]);
});

/** Settings of every type in every group, as the lines of a file. */
const anyFile = fc
  .array(
    fc.constantFrom(...groupNames).chain((group) =>
      fc
        .constantFrom(
          ...optionsOf(group).filter(([, { type }]) => ['string', 'bool', 'int', 'strings', 'duration'].includes(type)),
        )
        .chain(([key, { type }]) => {
          const text = fc.string({ unit: 'grapheme', maxLength: 8 });
          const values: Record<string, fc.Arbitrary<string>> = {
            string: text.map(quoteToml),
            bool: fc.boolean().map(String),
            int: fc.integer().map(String),
            strings: fc.array(text, { maxLength: 3 }).map((items) => `[${items.map(quoteToml).join(', ')}]`),
            duration: fc.nat(1e9).map((ns) => String(ns * 1000)),
          };
          return (values[type] ?? fc.constant('""')).map((value) => ({ group, key, value }));
        }),
    ),
    { maxLength: 12 },
  )
  .map((settings) => {
    const byGroup = Map.groupBy(settings, ({ group }) => group);
    return [...byGroup]
      .map(([group, entries]) => {
        const lines = new Map(entries.map(({ key, value }) => [key, value]));
        return `[${groups[group].table}]\n${[...lines].map(([key, value]) => `${key} = ${value}\n`).join('')}`;
      })
      .join('');
  });

test('what crio config prints reads back as the same configuration', () => {
  fc.assert(
    fc.property(anyFile, fc.boolean(), (text, all) => {
      const { config, warnings } = decode(text);
      assert.deepEqual(warnings, []);
      const printed = printTemplate(config, defaultConfig(), all);
      const again = decodeFile(defaultConfig(), 'printed', Buffer.from(printed));
      assert.deepEqual(again.warnings, []);
      assert.deepEqual(again.config, config);
    }),
    { numRuns: 60 },
  );
});

test('the effective dump reads back as the same configuration', () => {
  fc.assert(
    fc.property(anyFile, (text) => {
      const { config } = decode(text);
      const again = decodeFile(defaultConfig(), 'printed', Buffer.from(printEffective(config)));
      assert.deepEqual(again.warnings, []);
      assert.deepEqual(again.config, config);
    }),
    { numRuns: 60 },
  );
});

test('merging two files is merging their options, the later one wins', () => {
  fc.assert(
    fc.property(anyFile, anyFile, (first, second) => {
      const one = decode(first).config;
      const both = decodeFile(one, 'second', Buffer.from(second)).config;
      const alone = decodeFile(defaultConfig(), 'second', Buffer.from(second));
      for (const group of groupNames) {
        for (const [key, option] of optionsOf(group)) {
          if (group === 'crio') continue;
          const name = option.type === 'duration' ? `${key}_ms` : key;
          const field = name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
          const winner = alone.origins.has(`${groups[group].table}.${key}`) ? alone.config : one;
          assert.deepEqual(Reflect.get(both[group], field), Reflect.get(winner[group], field), key);
        }
      }
    }),
    { numRuns: 60 },
  );
});

test('the effective dump has the layout of a TOML encoder', () => {
  const text = printEffective(
    decode('[crio.runtime.runtimes.runc]\nno_sync_log = true\ndefault_annotations = { "a.b" = "c" }').config,
  );
  assert.match(text, /^\[crio\]\n {2}root = "\/var\/lib\/containers\/storage"\n/);
  assert.match(text, /\n {2}\[crio\.api\]\n {4}listen = /);
  assert.match(text, /\n {4}allowed_devices = \["\/dev\/fuse", "\/dev\/net\/tun"\]\n/);
  assert.match(
    text,
    /\n {6}\[crio\.runtime\.runtimes\.runc\]\n {8}runtime_path = ""\n {8}runtime_type = ""\n {8}runtime_root = ""\n {8}runtime_config_path = ""\n {8}no_sync_log = true\n/,
  );
  assert.match(text, /\n {8}\[crio\.runtime\.runtimes\.runc\.default_annotations\]\n {10}"a\.b" = "c"\n/);
  assert.match(text, /nri_plugin_request_timeout = "2s"/);
  assert.doesNotMatch(text, /default_env/);
  assert.match(printEffective(decode('[crio.runtime]\ndefault_env = []').config), /default_env = \[\]/);
});

test('reloadConfig takes the reloadable options, in order, up to the first that cannot be used', () => {
  const loaded = load(programs);
  const current = validateFull(loaded, { host: loaded.host, log: silentLog });
  const text = '[crio.runtime]\nlog_level = "debug"\nno_pivot = true\n[crio.image]\npause_command = "/p"\n';
  const good = load({ ...programs, '/etc/crio/crio.conf': text });
  const { config, error } = reloadConfig(current, good.config, { host: good.host, log: silentLog });
  assert.equal(error, undefined);
  assert.deepEqual(
    [config.runtime.logLevel, config.image.pauseCommand, config.runtime.noPivot],
    ['debug', '/p', false],
  );
  assert.equal(config.runtime.runtimes.get('crun')?.runtimePath, '/usr/bin/crun');
  const bad = load({ ...programs, '/etc/crio/crio.conf': `${text}pause_image = "a://b"\n` });
  const partly = reloadConfig(current, bad.config, { host: bad.host, log: silentLog });
  assert.ok(partly.error instanceof CrioError);
  assert.deepEqual([partly.config.runtime.logLevel, partly.config.image.pauseCommand], ['debug', '/pause']);
});

test('unknown keys of storage.conf are told with their line, those of the manual and of other drivers are not', () => {
  const warningsOf = (text: string) => storageWarnings(hostWith({ '/etc/containers/storage.conf': text }));
  const known = `[storage]
driver = ""
driver_priority = ["overlay"]
GraphRoot = "/g"
rootless_storage_path = "/r"
transient_store = false
[storage.options]
additionalimagestores = []
pull_options = { enable_partial_images = "false", anything = "true" }
remap-uids = ""
auto-userns-min-size = 1
[storage.options.overlay]
mountopt = "nodev"
force_mask = ""
[storage.options.thinpool]
basesize = "10G"`;
  assert.deepEqual(warningsOf(known), []);
  assert.equal(parseStorageConf(Buffer.from(known)).root, '/g');
  assert.deepEqual(
    warningsOf('[storage]\n[storage.options]\nmount_prog = 1\n[storage.options.overlay]\nmountopts = 1\n[strage]'),
    [
      '/etc/containers/storage.conf:3: unknown key "storage.options.mount_prog" is ignored; did you mean "mount_program"?',
      '/etc/containers/storage.conf:5: unknown key "storage.options.overlay.mountopts" is ignored; did you mean "mountopt"?',
      '/etc/containers/storage.conf:6: unknown key "strage" is ignored; did you mean "storage"?',
    ],
  );
});

test('parseStorageConf turns tables into driver options', () => {
  const text =
    '[storage]\ndriver = "overlay"\nrunroot = ""\n[storage.options]\nmountopt = "a"\nadditionalimagestores = ["/x"]\n[storage.options.overlay]\nmountopt = "nodev"\nskip_mount_home = "true"';
  assert.deepEqual(parseStorageConf(Buffer.from(text)), {
    root: '/var/lib/containers/storage',
    runroot: '/run/containers/storage',
    imagestore: '',
    driver: 'overlay',
    options: ['overlay.imagestore=/x', 'overlay.mountopt=nodev', 'overlay.skip_mount_home=true'],
  });
});

test('editDistance is a metric, and nearest finds slips only', () => {
  const word = fc.string({ maxLength: 8 });
  fc.assert(
    fc.property(word, word, (a, b) => {
      assert.equal(editDistance(a, b), editDistance(b, a));
      assert.equal(editDistance(a, b) === 0, a === b);
      assert.ok(editDistance(a, b) <= Math.max(a.length, b.length));
    }),
  );
  assert.equal(nearest('cgroup_manger', ['cgroup_manager', 'log_level']), 'cgroup_manager');
  assert.equal(nearest('default_mounts', ['default_env', 'log_level']), undefined);
});

test('the real host can be read', () => {
  const host = realHost({ PATH: process.env['PATH'] });
  assert.equal(host.typeOf('/proc/self'), 'directory');
  assert.equal(host.typeOf('/proc/self/nothing/here'), undefined);
  assert.equal(host.isExecutable('/bin/sh'), true);
  assert.equal(host.isExecutable('/nothing'), false);
});
