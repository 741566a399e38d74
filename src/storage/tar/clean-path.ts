/**
 * Paths of an archive as text with one character per byte (Latin-1), so that any name works and none changes.
 */
export type BytePath = string;

const needsCleaning = /(?:^|\/)\.{0,2}(?:\/|$)/;

/**
 * The shortest path that means the same lexically: no `.`, no empty parts, `..` taken with the part before it. A leading
 * `..` stays, a leading slash stays; an empty path is `.`.
 */
export function cleanPath(path: BytePath): BytePath {
  if (!needsCleaning.test(path)) return path;
  const isAbsolute = path.startsWith('/');
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.length > 0 && parts.at(-1) !== '..') parts.pop();
    else if (!isAbsolute) parts.push(part);
  }
  const joined = parts.join('/');
  if (isAbsolute) return `/${joined}`;
  return joined === '' ? '.' : joined;
}

/** Relative path below the layer's root: `..` and a leading slash lead no further than the root, which is ''. */
export function pathInRoot(path: BytePath): BytePath {
  if (!needsCleaning.test(path)) return path;
  return cleanPath(`/${path}`).slice(1);
}

/** `['a/b', 'c']` for `a/b/c`. */
export function splitPath(path: BytePath): readonly [folder: BytePath, name: BytePath] {
  const at = path.lastIndexOf('/');
  return at < 0 ? ['', path] : [path.slice(0, at), path.slice(at + 1)];
}

/** As system calls take it. */
export function pathBytes(path: BytePath): string | Buffer {
  for (let at = 0; at < path.length; at++) if (path.charCodeAt(at) > 0x7f) return Buffer.from(path, 'latin1');
  return path;
}
