import { CrioError } from '../base/errors.ts';

const maxLabelBytes = 4096;

/** True when every wanted pair is among the labels, exactly. */
export function matchesPairs(labels: ReadonlyMap<string, string>, wanted: ReadonlyMap<string, string>): boolean {
  for (const [key, value] of wanted) if (labels.get(key) !== value) return false;
  return true;
}

/** Key and value together may have 4096 bytes; the text is CRI-O's. */
export function checkLabels(labels: ReadonlyMap<string, string>): void {
  for (const [key, value] of labels) {
    if (Buffer.byteLength(key) + Buffer.byteLength(value) <= maxLabelBytes) continue;
    throw new CrioError(
      'unknown',
      `label key and value greater than maximum size (${maxLabelBytes} bytes), key: ${key.slice(0, 10)}`,
    );
  }
}
