/** Items per message of the streaming list calls, as CRI-O's. */
const chunkSize = 3000;

/** The items in groups; an empty list is one empty group, so that a client always gets a message. */
export function* inChunks<T>(items: readonly T[]): Iterable<readonly T[]> {
  if (items.length === 0) yield items;
  for (let start = 0; start < items.length; start += chunkSize) yield items.slice(start, start + chunkSize);
}
