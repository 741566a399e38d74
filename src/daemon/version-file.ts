import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { hasCode } from '../base/errors.ts';

/**
 * True when the file says that another release ran last: missing, malformed, or another major.minor
 * (cli 5). An empty path turns the check off.
 */
export async function saysOtherRelease(path: string, version: string): Promise<boolean> {
  if (path === '') return false;
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return true;
    throw error;
  }
  const ours = majorMinor(version);
  return ours === undefined || majorMinorOfFile(text) !== ours;
}

/** Writes the version as a JSON string: temporary name, sync, rename; the folder is made 0755. */
export async function writeVersionFile(path: string, version: string): Promise<void> {
  if (path === '') return;
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  const temporary = `${path}.tmp-${process.pid}`;
  await using file = await open(temporary, 'w', 0o644);
  await file.writeFile(JSON.stringify(version));
  await file.sync();
  await rename(temporary, path);
  await using folder = await open(dirname(path), 'r');
  await folder.sync();
}

function majorMinorOfFile(text: string): string | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'string' ? majorMinor(value) : undefined;
  } catch {
    return undefined;
  }
}

function majorMinor(version: string): string | undefined {
  return /^v?(\d+\.\d+)\.\d+(?:[-+].*)?$/.exec(version)?.[1];
}
