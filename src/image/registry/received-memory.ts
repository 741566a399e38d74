import type { IncomingMessage } from 'node:http';

/**
 * Gives the memory of a piece back now; nothing may look at it any more. The collector sees only the small object in front
 * of it: after ten megabytes of pieces it would stop the program to look through the whole heap.
 */
export function giveBack({ buffer, byteLength }: Buffer): void {
  // A piece that is a part of something larger shares that with others.
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}

/**
 * Does so with what arrives at the socket of a response. Node's parser, whose listener comes first, copies what belongs to
 * the body.
 */
export function giveBackReceived(response: IncomingMessage): void {
  const { socket } = response;
  const afterParser = (piece: Buffer): void => {
    // The connection may be another request's from here on, whose parser has not read this piece yet.
    if (response.complete) socket.off('data', afterParser);
    else giveBack(piece);
  };
  socket.on('data', afterParser);
  response.once('close', () => socket.off('data', afterParser));
}
