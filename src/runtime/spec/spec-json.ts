import { CrioError, wrap } from '../../base/errors.ts';
import { readExactIntegers, writeExactIntegers } from './exact-integer.ts';
import type { Spec } from './oci.ts';

/** Key order of config.json, as the specification lists the fields; tools that compare texts rely on it. */
const specOrder = ['ociVersion', 'process', 'root', 'hostname', 'mounts', 'hooks', 'annotations', 'linux'];
const processOrder = [
  'terminal',
  'consoleSize',
  'user',
  'args',
  'env',
  'cwd',
  'capabilities',
  'rlimits',
  'noNewPrivileges',
  'apparmorProfile',
  'oomScoreAdj',
  'selinuxLabel',
];
const linuxOrder = [
  'uidMappings',
  'gidMappings',
  'sysctl',
  'resources',
  'cgroupsPath',
  'namespaces',
  'devices',
  'seccomp',
  'rootfsPropagation',
  'maskedPaths',
  'readonlyPaths',
  'mountLabel',
];
const resourcesOrder = ['devices', 'memory', 'cpu', 'pids', 'hugepageLimits', 'unified'];

/** The text of config.json: tab-indented, keys in the specification's order, annotations sorted. */
export function encodeSpec(spec: Spec): string {
  const ordered = inOrder(spec, specOrder, {
    process: (process) => inOrder(process, processOrder, {}),
    annotations: sorted,
    linux: (linux) =>
      inOrder(linux, linuxOrder, { sysctl: sorted, resources: (r) => inOrder(r, resourcesOrder, { unified: sorted }) }),
  });
  return JSON.stringify(ordered, writeExactIntegers, '\t');
}

type Inner = Readonly<Record<string, (value: object) => object>>;

function inOrder(value: object, order: readonly string[], inner: Inner): object {
  const source = new Map<string, unknown>(Object.entries(value));
  const keys = [...order.filter((key) => source.has(key)), ...[...source.keys()].filter((key) => !order.includes(key))];
  return Object.fromEntries(
    keys.map((key) => {
      const item = source.get(key);
      const change = inner[key];
      return [key, change !== undefined && typeof item === 'object' && item !== null ? change(item) : item];
    }),
  );
}

function sorted(value: object): object {
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** Reads a config.json that this daemon or CRI-O wrote. Throws CrioError `internal` when it is no spec. */
export function decodeSpec(text: string): Spec {
  let value: unknown;
  try {
    value = JSON.parse(text, readExactIntegers);
  } catch (error) {
    throw wrap('parse config.json', error, 'internal');
  }
  if (!isSpec(value)) throw new CrioError('internal', 'parse config.json: no ociVersion');
  return value;
}

/** config.json lies in a folder of root; only the shape that every reader needs is checked. */
function isSpec(value: unknown): value is Spec {
  return typeof value === 'object' && value !== null && 'ociVersion' in value && typeof value.ociVersion === 'string';
}
