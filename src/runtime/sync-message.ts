/** What the monitor writes on the sync pipe: one JSON object in one line (conmon sheet, section 3). */
export interface SyncMessage {
  /** Pid of the container's init process, or -1. */
  readonly pid: number;
  /** The runtime's error output; `` without. */
  readonly message: string;
}

/** The monitor passes on at most 8191 bytes, each of which may be escaped to six characters. */
export const maxSyncMessageBytes = 65536;

/**
 * Reads the first line; undefined while it is not complete. Bytes that are no UTF-8 (a message cut in the middle of a
 * character) are replaced. Throws when the line is no such message.
 */
export function parseSyncMessage(data: Buffer): SyncMessage | undefined {
  const end = data.indexOf(0x0a);
  if (end < 0) return undefined;
  const value: unknown = JSON.parse(data.subarray(0, end).toString());
  if (typeof value !== 'object' || value === null) throw new SyntaxError('not an object');
  const { pid, message } = value as { pid?: unknown; message?: unknown }; // an object; both are checked
  if (typeof pid !== 'number' || !Number.isInteger(pid)) throw new SyntaxError('no pid');
  return { pid, message: typeof message === 'string' ? message : '' };
}
