import { constants } from 'node:os';
import koffi from 'koffi';
import { SysError } from '../base/errors.ts';

/**
 * The C library, and the one way every call into it reports failure. Only files of this folder import it.
 * Variadic functions (fcntl, ioctl, syscall) are bound with fixed arguments: on x86-64 and arm64 Linux both
 * are passed the same way.
 */
const libc = koffi.load('libc.so.6');

/** A path as text, or as raw bytes when it need not be UTF-8 (names in an image). */
export type Path = string | Uint8Array;

/** A C pointer argument: a buffer, or null. */
export type Pointer = Uint8Array | bigint | null;

/** Binds a function by its C prototype; `F` is the caller's promise that it says the same (koffi's type is any). */
export function bind<F extends (...args: never[]) => unknown>(prototype: string): F {
  return libc.func(prototype) as unknown as F;
}

/** Like `bind`, from another library by its file name; throws when it is not there. */
export function bindFrom<F extends (...args: never[]) => unknown>(library: string, prototype: string): F {
  return koffi.load(library).func(prototype) as unknown as F;
}

/** Like `bind`, from the libraries that Node's own program holds and exports, as it does for its addons. */
export function bindProgram<F extends (...args: never[]) => unknown>(prototype: string): F {
  return koffi.load(null).func(prototype) as unknown as F;
}

/**
 * Where the bytes of a buffer are. They stay there as long as the buffer lives: no array buffer moves, and none is
 * inside V8's heap, as Node is built without that.
 */
export function addressOf(buffer: Uint8Array): bigint {
  return koffi.address(buffer);
}

/** Binds system call `number` through syscall(2); `args` are C types. */
export function bindSyscall<F extends (...args: never[]) => unknown>(args: readonly string[]): F {
  return libc.func('syscall', 'long', ['long', ...args]) as unknown as F;
}

/** Like `bind`, with a promise: the call runs on libuv's pool of 4 threads, so it must not be able to hang. */
export function bindAsync<A extends readonly unknown[]>(
  prototype: string,
): (syscall: string, path: Path | undefined, ...args: A) => Promise<number> {
  const func = libc.func(prototype);
  return (syscall, path, ...args) =>
    new Promise((resolve, reject) => {
      func.async(...args, (error: unknown, result: number) => {
        // Promises settled in a native callback wait for the next turn of the loop; setImmediate makes that turn now.
        const errno = koffi.errno();
        setImmediate(() => {
          if (error !== null && error !== undefined) reject(error);
          else if (result === -1) reject(sysError(errno, syscall, path));
          else resolve(result);
        });
      });
    });
}

/** Calls until it is not interrupted; -1 becomes a SysError. */
export function invoke(syscall: string, path: Path | undefined, call: () => number): number {
  for (;;) {
    const result = call();
    if (result !== -1) return result;
    const errno = koffi.errno();
    if (errno !== constants.errno.EINTR) throw sysError(errno, syscall, path);
  }
}

/** errno of the call just made. */
export function lastErrno(): number {
  return koffi.errno();
}

export function sysError(errno: number, syscall: string, path?: Path): SysError {
  const text = path === undefined || typeof path === 'string' ? path : Buffer.from(path).toString();
  return new SysError({ code: errnoName(errno), errno, syscall, path: text });
}

/** A path for C: bytes get their terminator, and one with a NUL inside is refused instead of being cut there. */
export function cPath(path: Path, syscall: string): string | Uint8Array {
  if (typeof path === 'string') {
    if (path.includes('\0')) throw sysError(constants.errno.EINVAL, syscall, path.replaceAll('\0', '\\0'));
    return path;
  }
  if (path.includes(0)) throw sysError(constants.errno.EINVAL, syscall);
  return Buffer.concat([path, terminator]);
}

const terminator = new Uint8Array(1);

/** `EBUSY` for 16. Where Linux gives one number two names, the one that Node prints. */
export function errnoName(errno: number): string {
  return errnoNames.get(errno) ?? `E${errno}`;
}

const errnoNames = new Map<number, string>();
for (const table of [koffi.os.errno, constants.errno]) {
  for (const [name, errno] of Object.entries(table)) errnoNames.set(errno, name);
}
for (const name of ['EAGAIN', 'ENOTSUP', 'EDEADLK'] as const) {
  const errno = koffi.os.errno[name];
  if (errno !== undefined) errnoNames.set(errno, name);
}

export interface DescriptorWatch {
  close(): void;
  unref(): void;
}

/** Calls `onReady` from the event loop while `fd` is readable (or writable), until closed, which must come before close(2). */
export function watchDescriptor(
  fd: number,
  events: { readonly readable?: boolean; readonly writable?: boolean },
  onReady: () => void,
): DescriptorWatch {
  let closed = false;
  // Native callbacks do not drain promises, so the work is put off; stopped meanwhile because the poll is level-triggered.
  const onEvent = (): void => {
    handle.stop();
    setImmediate(() => {
      if (closed) return;
      onReady();
      if (!closed) handle.start(events, onEvent);
    });
  };
  const handle = koffi.node.poll(fd, events, onEvent);
  return {
    close() {
      if (closed) return;
      closed = true;
      handle.close();
    },
    unref() {
      handle.unref();
    },
  };
}

export const AT_FDCWD = -100;
