import type { Logger } from '../base/log.ts';
import { connectSeqpacket, isGone } from '../sys/socket.ts';
import type { SeqpacketSocket } from '../sys/socket.ts';
import { resizeThroughMonitor } from './monitor-control.ts';
import type { Attachment } from './runtime.ts';

/** First byte of each packet from conmon. */
const stderrPacket = 3;
/** conmon reads no more of a packet and drops the rest. */
const maxInputPacket = 32768;
/** Sockets of one container that wait until conmon has read their end; the longest waiting is given up for more. */
const maxLeaving = 64;

/** A client of conmon's attach socket. Throws ENOENT or ECONNREFUSED when the monitor is gone. */
export async function attach(log: Logger, socketPath: string, bundle: string): Promise<Attachment> {
  const socket = await connectSeqpacket(socketPath);
  let isLeft = false;
  return {
    async receive() {
      const packet = await socket.receive();
      if (packet === undefined) return undefined;
      return { stream: packet[0] === stderrPacket ? 'stderr' : 'stdout', data: packet.subarray(1) };
    },
    send: (data) => send(socket, data),
    endInput: () => void socket.end(),
    resize(size) {
      if (!isLeft) resizeThroughMonitor(log, bundle, size);
    },
    [Symbol.dispose]() {
      isLeft = true;
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
