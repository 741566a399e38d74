import { CrioError } from '../base/errors.ts';
import { isJsonArray, isJsonObject } from '../base/go-json.ts';
import type { Json } from '../base/go-json.ts';
import { flag, stringFlag } from '../config/flags.ts';
import { askDaemon, daemonSocket } from './ask-daemon.ts';
import { ArgumentsError } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { credentialFlags, credentialHeaders } from './pull-credentials.ts';
import { barsView, linesView } from './pull-view.ts';
import type { Screen, ShownPull, View } from './pull-view.ts';

export const pullCommand: Command = {
  name: 'pull',
  aliases: [],
  usage: 'pull an image through the running daemon and show its progress',
  arguments: 'IMAGE',
  flagsAnywhere: true,
  flags: [
    flag({ name: 'socket', aliases: ['s'], usage: 'socket of the daemon; that of the configuration when it is empty' }),
    flag({ name: 'namespace', aliases: ['n'], usage: 'namespace whose signature policy and credentials count' }),
    ...credentialFlags,
  ],
  run: pull,
};

/** The image's id is the only line on standard output that is no progress: the last one. */
async function pull(context: CommandContext): Promise<number> {
  const [image = '', ...more] = context.args;
  if (image === '' || more.length > 0) throw new ArgumentsError('expected one image');
  const { stdout } = context.output;
  const canDraw = context.output.isTerminal === true && context.host.env['TERM'] !== 'dumb';
  const view: View = canDraw ? barsView(screen) : linesView();
  let pull: ShownPull | undefined;
  for await (const { name, data } of events(context, image)) {
    if (name === 'progress') stdout(view((pull = toPull(data))));
    if (name === 'failed') throw new CrioError('unknown', textOf(data, 'error'));
    if (name !== 'done') continue;
    if (pull !== undefined) stdout(view(finished(pull)));
    stdout(`${textOf(data, 'id')}\n`);
    return 0;
  }
  throw new CrioError('unavailable', 'the daemon ended the connection before the pull was over');
}

/** A terminal of unknown size says 0. */
function screen(): Screen {
  const { columns, rows } = process.stdout;
  return { columns: columns > 20 ? columns : 80, rows: rows > 4 ? rows : 24 };
}

/** The last event comes a moment before the end. */
function finished({ layers }: ShownPull): ShownPull {
  const over = layers.map((layer) => ({
    ...layer,
    phase: layer.phase === 'exists' ? 'exists' : 'done',
    downloaded: layer.size,
    unpacked: layer.size,
    bytesPerSecond: 0,
  }));
  return { phase: 'done', layers: over };
}

interface ServerEvent {
  readonly name: string;
  readonly data: Json;
}

/** Server-sent events of `POST /pulls`, as far as our daemon writes them: one line of event, one of data. */
async function* events(context: CommandContext, image: string): AsyncGenerator<ServerEvent> {
  let text = '';
  for await (const chunk of await post(context, image)) {
    text += chunk;
    const blocks = text.split('\n\n');
    text = blocks.pop() ?? '';
    for (const block of blocks) {
      const match = /^event: (\w+)\ndata: (.*)$/s.exec(block);
      // JSON.parse returns any.
      if (match !== null) yield { name: match[1] ?? '', data: JSON.parse(match[2] ?? '') as Json };
    }
  }
}

async function post(context: CommandContext, image: string): Promise<AsyncIterable<string>> {
  const socket = daemonSocket(context);
  const namespace = stringFlag(context.flags, 'namespace') ?? '';
  const path = `/pulls?${new URLSearchParams({ image, namespace }).toString()}`;
  const headers = await credentialHeaders(context);
  const { status, body } = await askDaemon(socket, { method: 'POST', path, headers });
  if (status !== 200) throw new CrioError('unavailable', `pull on "${socket}": the daemon answered ${status}`);
  return body;
}

function toPull(data: Json): ShownPull {
  const layers = isJsonObject(data) && isJsonArray(data['layers']) ? data['layers'] : [];
  return {
    phase: textOf(data, 'phase'),
    layers: layers.map((layer) => ({
      digest: textOf(layer, 'digest'),
      size: numberOf(layer, 'size'),
      downloaded: numberOf(layer, 'downloaded'),
      unpacked: numberOf(layer, 'unpacked'),
      phase: textOf(layer, 'phase'),
      endpoint: textOf(layer, 'endpoint'),
      bytesPerSecond: numberOf(layer, 'bytes_per_second'),
    })),
  };
}

function textOf(data: Json | undefined, key: string): string {
  const value = isJsonObject(data) ? data[key] : undefined;
  return typeof value === 'string' ? value : '';
}

function numberOf(data: Json, key: string): number {
  const value = isJsonObject(data) ? data[key] : undefined;
  return typeof value === 'number' ? value : 0;
}
