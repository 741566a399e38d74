import type { Socket } from 'node:net';
import { channelLimit, Channels } from './channels.ts';
import type { Refusal } from './negotiation.ts';
import { copyBothWays, forwardErrorText } from './port-forward.ts';
import type { ServedSocket } from './websocket.ts';
import { whenAborted } from './when-aborted.ts';

/** Sub-protocols of the old port-forward over WebSocket, and whether it is base64. */
export const webSocketForwardProtocols: ReadonlyMap<string, boolean> = new Map([
  ['v4.channel.k8s.io', false],
  ['v4.base64.channel.k8s.io', true],
]);

const channelsPerPort = 2;

/** Why a session with so many ports cannot be: a message says its channel in one byte. */
export function tooManyPorts(protocol: string, count: number): Refusal | undefined {
  const limit = Math.floor(channelLimit(isBase64(protocol)) / channelsPerPort);
  if (count <= limit) return undefined;
  return { status: 400, body: `unable to forward ${count} ports over one WebSocket: at most ${limit}\n` };
}

function isBase64(protocol: string): boolean {
  return webSocketForwardProtocols.get(protocol) ?? false;
}

export interface WebSocketPortForward {
  readonly socket: ServedSocket;
  readonly protocol: string;
  readonly podId: string;
  /** Of the CRI request: one connection each. */
  readonly ports: readonly number[];
  readonly traffic: () => number;
  readonly idleTimeoutMs: number;
  readonly dial: (port: number) => Promise<Socket>;
}

/** Two channels for each port: data, and errors of the server. Resolves when all connections have ended. */
export async function serveWebSocketPortForward(session: WebSocketPortForward): Promise<void> {
  const { socket, protocol, ports, traffic, idleTimeoutMs } = session;
  const channels = new Channels(socket, {
    base64: isBase64(protocol),
    canHalfClose: false,
    idleTimeoutMs,
    traffic,
    inputs: ports.map((_, index) => dataChannel(index)),
  });
  for (const [index, port] of ports.entries()) {
    const bytes = Buffer.alloc(2);
    bytes.writeUInt16LE(port);
    await channels.send(dataChannel(index), bytes);
    await channels.send(dataChannel(index) + 1, bytes);
  }
  await Promise.all(ports.map((port, index) => forward(channels, session, port, dataChannel(index))));
  channels.end();
}

function dataChannel(index: number): number {
  return index * channelsPerPort;
}

async function forward(
  channels: Channels,
  { dial, podId }: WebSocketPortForward,
  port: number,
  channel: number,
): Promise<void> {
  const input = channels.input(channel);
  if (input === undefined) return;
  const gone = whenAborted(channels.closed);
  try {
    const target = await dial(port);
    const write = (data: Uint8Array) => channels.send(channel, data);
    await copyBothWays({ read: () => input.read(), write, end() {}, canHalfClose: false, gone }, target);
  } catch (error) {
    await channels.send(channel + 1, Buffer.from(forwardErrorText(podId, port, error)));
  }
  input.ignoreInput();
}
