/**
 * File name of a big data item: the key itself when it is made of `[a-z0-9.]`, else `=` and the key in base64.
 * The format's alphabet has a slash; a key that would need it has no file name.
 */
export function bigDataFile(key: string): string {
  if (key === '') throw new RangeError('empty big data key');
  if (/^[a-z0-9.]+$/.test(key) && !/^\.+$/.test(key)) return key;
  const name = `=${Buffer.from(key, 'utf8').toString('base64')}`;
  if (name.includes('/')) throw new RangeError(`big data key "${key}" has no file name`);
  return name;
}
