import { CrioError } from '../base/errors.ts';

/** Parents without a request for one, as CRI-O's (cri-behaviour 5). */
const defaultCgroupfsParent = '/crio';
const defaultSlice = 'system.slice';

export type CgroupManager = 'cgroupfs' | 'systemd';

/** Value of `linux.cgroupsPath` for a container or infra container below `parent` (`` means the default parent). */
export function cgroupsPathFor(manager: CgroupManager, parent: string, id: string): string {
  if (manager === 'systemd') return `${parent === '' ? defaultSlice : lastPart(parent)}:crio:${id}`;
  return joinBelow(parent === '' ? defaultCgroupfsParent : parent, `crio-${id}`);
}

/** Directory, below each hierarchy's mount, that a `linux.cgroupsPath` stands for. */
export function resolveCgroupsPath(cgroupsPath: string): string {
  const parts = cgroupsPath.split(':');
  const [slice, prefix, name] = parts;
  if (parts.length !== 3 || slice === undefined) return joinBelow('/', cgroupsPath);
  return `${expandSlice(slice)}/${prefix}-${name}.scope`;
}

/** `a-b.slice` lies in `a.slice` (systemd.slice(5)): `/a.slice/a-b.slice`. `-.slice` is the root. */
export function expandSlice(slice: string): string {
  if (slice === '-.slice' || slice === '') return '';
  const stem = slice.replace(/\.slice$/, '');
  let path = '';
  let name = '';
  for (const part of stem.split('-')) {
    name = name === '' ? part : `${name}-${part}`;
    path += `/${name}.slice`;
  }
  return path;
}

/** A pod's parent as a directory below each hierarchy's mount. */
export function parentPath(manager: CgroupManager, parent: string): string {
  return manager === 'systemd' && parent.endsWith('.slice') ? expandSlice(lastPart(parent)) : joinBelow('/', parent);
}

/** The texts are CRI-O's. `` is allowed. */
export function checkCgroupParent(manager: CgroupManager, parent: string): void {
  if (parent === '') return;
  const isSlice = lastPart(parent).endsWith('.slice');
  if (manager === 'systemd' && !isSlice) {
    throw new CrioError(
      'unknown',
      `cri-o configured with systemd cgroup manager, but did not receive slice as parent: ${parent}`,
    );
  }
  if (manager === 'cgroupfs' && isSlice) {
    throw new CrioError(
      'unknown',
      `cri-o configured with cgroupfs cgroup manager, but received systemd slice as parent: ${parent}`,
    );
  }
}

/** Joins without ever leaving `parent`: a request's `..` has no meaning in a cgroup path. */
function joinBelow(parent: string, child: string): string {
  const parts = `${parent}/${child}`.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw new CrioError('invalid', `join cgroup path "${parent}/${child}": ".." is not allowed`);
  return `/${parts.join('/')}`;
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
