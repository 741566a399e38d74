import { constants } from 'node:os';
import { bind, cPath, errnoName, invoke, lastErrno, sysError } from './libc.ts';
import type { Path, Pointer } from './libc.ts';

/** XATTR_SIZE_MAX and XATTR_LIST_MAX of xattr(7): one read of this size always suffices. */
const maxSize = 65536;
const scratch = Buffer.alloc(maxSize);

type Text = string | Uint8Array;

const c = {
  lgetxattr: bind<(path: Text, name: string, value: Pointer, size: number) => number>(
    'intptr_t lgetxattr(const char *path, const char *name, void *value, size_t size)',
  ),
  fgetxattr: bind<(fd: number, name: string, value: Pointer, size: number) => number>(
    'intptr_t fgetxattr(int fd, const char *name, void *value, size_t size)',
  ),
  lsetxattr: bind<(path: Text, name: string, value: Pointer, size: number, flags: number) => number>(
    'int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)',
  ),
  fsetxattr: bind<(fd: number, name: string, value: Pointer, size: number, flags: number) => number>(
    'int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)',
  ),
  llistxattr: bind<(path: Text, list: Pointer, size: number) => number>(
    'intptr_t llistxattr(const char *path, void *list, size_t size)',
  ),
  flistxattr: bind<(fd: number, list: Pointer, size: number) => number>(
    'intptr_t flistxattr(int fd, void *list, size_t size)',
  ),
  lremovexattr: bind<(path: Text, name: string) => number>('int lremovexattr(const char *path, const char *name)'),
};

/** lgetxattr(2); undefined when there is no such attribute. ENOTSUP where the file system has none. */
export function lgetxattr(path: Path, name: string): Buffer | undefined {
  const file = cPath(path, 'lgetxattr');
  return get('lgetxattr', path, () => c.lgetxattr(file, name, scratch, maxSize));
}

/** fgetxattr(2); `fd` must not be opened with O_PATH. */
export function fgetxattr(fd: number, name: string): Buffer | undefined {
  return get('fgetxattr', undefined, () => c.fgetxattr(fd, name, scratch, maxSize));
}

/** lsetxattr(2); `flags` 1 = create only, 2 = replace only. */
export function lsetxattr(path: Path, name: string, value: Uint8Array, flags = 0): void {
  const file = cPath(path, 'lsetxattr');
  invoke('lsetxattr', path, () => c.lsetxattr(file, name, value, value.length, flags));
}

/** fsetxattr(2) */
export function fsetxattr(fd: number, name: string, value: Uint8Array, flags = 0): void {
  invoke('fsetxattr', undefined, () => c.fsetxattr(fd, name, value, value.length, flags));
}

/** llistxattr(2): names; empty where the file system knows none. */
export function llistxattr(path: Path): string[] {
  const file = cPath(path, 'llistxattr');
  return list('llistxattr', path, () => c.llistxattr(file, scratch, maxSize));
}

/** flistxattr(2) */
export function flistxattr(fd: number): string[] {
  return list('flistxattr', undefined, () => c.flistxattr(fd, scratch, maxSize));
}

/** lremovexattr(2); one that is not there is success. */
export function lremovexattr(path: Path, name: string): void {
  const file = cPath(path, 'lremovexattr');
  if (c.lremovexattr(file, name) === 0) return;
  const errno = lastErrno();
  if (errnoName(errno) !== 'ENODATA') throw sysError(errno, 'lremovexattr', path);
}

function get(syscall: string, path: Path | undefined, call: () => number): Buffer | undefined {
  const length = call();
  if (length >= 0) return Buffer.from(scratch.subarray(0, length));
  const errno = lastErrno();
  if (errno === constants.errno.ENODATA) return undefined;
  throw sysError(errno, syscall, path);
}

function list(syscall: string, path: Path | undefined, call: () => number): string[] {
  const length = call();
  if (length > 0)
    return scratch
      .subarray(0, length - 1)
      .toString()
      .split('\0');
  if (length === 0) return [];
  const errno = lastErrno();
  if (errno === constants.errno.EOPNOTSUPP) return [];
  throw sysError(errno, syscall, path);
}
