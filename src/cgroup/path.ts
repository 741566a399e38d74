import { CrioError } from '../base/errors.ts';

export type CgroupManager = 'cgroupfs' | 'systemd';

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

/** Joins without ever leaving `parent`: a request's `..` has no meaning in a cgroup path. */
function joinBelow(parent: string, child: string): string {
  const parts = `${parent}/${child}`.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..'))
    throw new CrioError('invalid', `join cgroup path "${parent}/${child}": ".." is not allowed`);
  return `/${parts.join('/')}`;
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
