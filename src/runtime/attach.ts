import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode } from '../base/errors.ts';
import { O_CLOEXEC, O_NONBLOCK, O_WRONLY } from '../sys/arch.ts';
import { connectSeqpacket, isGone } from '../sys/socket.ts';
import type { SeqpacketSocket } from '../sys/socket.ts';
import type { TerminalSize } from '../sys/terminal.ts';
import type { Attachment } from './runtime.ts';

/** First byte of each packet from conmon. */
const stderrPacket = 3;
/** conmon reads no more of a packet and drops the rest. */
const maxInputPacket = 32768;
/** conmon mixes up control messages that come faster. */
const resizePauseMs = 25;
/** Sockets of one container that wait until conmon has read their end; the longest waiting is given up for more. */
const maxLeaving = 64;
/** Newer conmons take no larger ones. */
const maxSize = 1000;

/** A client of conmon's attach socket. Throws ENOENT or ECONNREFUSED when the monitor is gone. */
export function attach(socketPath: string, bundle: string): Attachment {
  const socket = connectSeqpacket(socketPath);
  const resizer = new Resizer(join(bundle, 'ctl'));
  return {
    async receive() {
      const packet = await socket.receive();
      if (packet === undefined) return undefined;
      return { stream: packet[0] === stderrPacket ? 'stderr' : 'stdout', data: packet.subarray(1) };
    },
    send: (data) => send(socket, data),
    endInput: () => void socket.end(),
    resize: (size) => resizer.resize(size),
    [Symbol.dispose]() {
      resizer.close();
      void leave(socketPath, socket);
    },
  };
}

const leaving = new Map<string, Set<SeqpacketSocket>>();

/**
 * conmon frees a client once reading has come to its end and writing has failed. In this order it does so soundly; in the
 * other it uses the client once more, and dies of that when the heap has shrunk (2.1.6: segfault in the callback that
 * reads, if several others have gone since the last output). So none is closed before conmon has read the end of its input.
 * That takes a millisecond, or until the container reads what waits for it.
 */
async function leave(socketPath: string, socket: SeqpacketSocket): Promise<void> {
  const others = leaving.get(socketPath) ?? new Set();
  leaving.set(socketPath, others.add(socket));
  const [oldest] = others;
  if (oldest !== undefined && others.size > maxLeaving) {
    others.delete(oldest);
    oldest.close();
  }
  try {
    await socket.leave();
  } finally {
    others.delete(socket);
    if (others.size === 0 && leaving.get(socketPath) === others) leaving.delete(socketPath);
  }
}

async function send(socket: SeqpacketSocket, data: Uint8Array): Promise<boolean> {
  try {
    for (let done = 0; done < data.length; done += maxInputPacket) {
      await socket.send(data.subarray(done, done + maxInputPacket));
    }
    return true;
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

/** Sends sizes one by one; of those that come too fast only the last. */
class Resizer {
  readonly #controlPath: string;
  #next: TerminalSize | undefined;
  #pause: NodeJS.Timeout | undefined;

  constructor(controlPath: string) {
    this.#controlPath = controlPath;
  }

  resize(size: TerminalSize): void {
    this.#next = size;
    if (this.#pause === undefined) this.#send();
  }

  #send(): void {
    const size = this.#next;
    this.#next = undefined;
    this.#pause = undefined;
    if (size === undefined) return;
    sendToMonitor(this.#controlPath, `1 ${Math.min(size.height, maxSize)} ${Math.min(size.width, maxSize)}\n`);
    this.#pause = setTimeout(() => this.#send(), resizePauseMs);
  }

  close(): void {
    clearTimeout(this.#pause);
  }
}

/** A whole line in one write. A monitor that has ended (ENXIO) or does not read is no error: it is only a size. */
function sendToMonitor(path: string, line: string): void {
  try {
    const fd = openSync(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    try {
      writeSync(fd, line);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (!hasCode(error, 'ENXIO', 'ENOENT', 'EAGAIN')) throw error;
  }
}
