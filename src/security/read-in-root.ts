import { closeSync, fstatSync, read, readSync, type Stats } from 'node:fs';
import { promisify } from 'node:util';
import { CrioError, hasCode } from '../base/errors.ts';
import { O_NOCTTY, O_NONBLOCK, O_RDONLY } from '../sys/arch.ts';
import { openInRoot } from '../sys/file.ts';

/** Largest passwd or group file that is read; an image may hold any. */
export const maxFileBytes = 10 * 1024 * 1024;
/** Longest line that is looked at; a group of ten thousand members has room. */
const maxLineBytes = 1024 * 1024;
const chunkBytes = 64 * 1024;

const readAsync = promisify(read);

/** An open regular file of an image. */
export interface RootFile extends Disposable {
  readonly fd: number;
  readonly stat: Stats;
  readonly path: string;
}

/**
 * Opens a regular file as a process chrooted to the root file system would see it. Undefined when there is no such file,
 * or something else stands in its place: a FIFO would hang the reader and a device has no end (CVE-2024-9676).
 */
export function openRegularInRoot(rootFd: number, path: string): RootFile | undefined {
  const fd = tryOpen(rootFd, path);
  if (fd === undefined) return undefined;
  const stat = fstatSync(fd);
  if (stat.isFile()) return { fd, stat, path, [Symbol.dispose]: () => closeSync(fd) };
  closeSync(fd);
  return undefined;
}

function tryOpen(rootFd: number, path: string): number | undefined {
  try {
    return openInRoot(rootFd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  } catch (error) {
    // ELOOP: a link into /proc or in a circle. ENXIO, ENODEV: a socket or a device nobody serves.
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENODEV', 'EACCES')) return undefined;
    throw error;
  }
}

/**
 * The file in pieces of at most 64 KiB. The first one, which is nearly always all, is read at once: a turn through the
 * thread pool takes ten times as long. Throws CrioError `invalid` when the file is larger than the limit.
 */
export async function* readChunks(file: RootFile, maxBytes = maxFileBytes): AsyncGenerator<Buffer> {
  for (let position = 0; ;) {
    // a new buffer each time: the caller may keep it
    const buffer = Buffer.allocUnsafe(chunkBytes);
    const bytesRead =
      position === 0
        ? readSync(file.fd, buffer, 0, chunkBytes, 0)
        : (await readAsync(file.fd, buffer, 0, chunkBytes, position)).bytesRead;
    if (bytesRead === 0) return;
    position += bytesRead;
    if (position > maxBytes) {
      throw new CrioError('invalid', `read "${file.path}" of the image: larger than ${maxBytes} bytes`);
    }
    yield buffer.subarray(0, bytesRead);
    if (position >= file.stat.size) return;
  }
}

/**
 * Lines without their ends, as many at a time as a piece of the file holds: never the whole file (CVE-2025-4437,
 * CVE-2026-47262).
 */
export async function* readLines(file: RootFile, maxBytes = maxFileBytes): AsyncGenerator<readonly string[]> {
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of readChunks(file, maxBytes)) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > maxLineBytes) {
      throw new CrioError('invalid', `read "${file.path}" of the image: line longer than ${maxLineBytes} bytes`);
    }
    yield lines;
  }
  rest += decoder.decode();
  if (rest !== '') yield [rest];
}
