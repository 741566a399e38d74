import type { ImageRecord } from '../store.ts';

/** What to pull an image by: its tags, else its names with a digest, else the digests alone. */
export function namesToPull({ names, digests }: Pick<ImageRecord, 'names' | 'digests'>): readonly string[] {
  const tags = names.filter((name) => !name.includes('@'));
  if (tags.length > 0) return tags;
  return names.length > 0 ? names : digests;
}
