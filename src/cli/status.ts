import { writeFileSync } from 'node:fs';
import { CrioError, messageOf, wrap } from '../base/errors.ts';
import { flag, stringFlag } from '../config/flags.ts';
import type { Command, CommandContext } from './command.ts';

/** The client of the daemon's HTTP API; `../status-api/` is the other end. */

const defaultSocket = '/var/run/crio/crio.sock';
const dialTimeoutMs = 32_000;
/** `sun_path` of a unix address, with its final zero byte (unix(7)). */
const maxSocketPath = 108;

/** The body of a GET. A status of 400 and above is an error here; CRI-O's own client shows that body as an answer. */
async function get(context: CommandContext, path: string): Promise<Buffer> {
  const socket = stringFlag(context.parentFlags, 'socket') ?? context.loaded.config.api.listen;
  if (Buffer.byteLength(socket) > maxSocketPath)
    throw new CrioError('invalid', `unix socket path "${socket}" is too long`);
  // Loaded here: it takes 20 ms, which no other command needs.
  const { request } = await import('node:http');
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => reject(wrap(`get http://crio${path} on "${socket}"`, error));
    const call = request(
      { socketPath: socket, path, headers: { host: 'crio' }, timeout: dialTimeoutMs },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const body = Buffer.concat(chunks);
          const { statusCode = 0 } = response;
          if (statusCode < 400) resolve(body);
          else fail(new Error(`${statusCode}: ${body.toString('utf8').slice(0, 200).trim()}`));
        });
        response.on('error', fail);
      },
    );
    call.on('timeout', () => call.destroy(new Error(`no answer within ${dialTimeoutMs / 1000} seconds`)));
    call.on('error', fail);
    call.end();
  });
}

/** A JSON object whose integers keep all their digits, as text. */
async function getJson(context: CommandContext, path: string): Promise<JsonObject> {
  const text = (await get(context, path)).toString('utf8');
  try {
    const value: unknown = JSON.parse(text, (_key: string, parsed: unknown, context?: { source?: string }) =>
      typeof parsed === 'number' ? (context?.source ?? String(parsed)) : parsed,
    );
    if (isObject(value)) return value;
  } catch (error) {
    throw new CrioError(
      'internal',
      `decode JSON response of ${path}: ${messageOf(error)}: ${JSON.stringify(text.slice(0, 200).trim())}`,
    );
  }
  throw new CrioError('internal', `decode JSON response of ${path}: not an object`);
}

type JsonObject = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(value: unknown): string {
  return typeof value === 'string' || typeof value === 'boolean' ? String(value) : '';
}

async function printConfig(context: CommandContext): Promise<number> {
  context.output.stdout((await get(context, '/config')).toString('utf8'));
  return 0;
}

async function printInfo(context: CommandContext): Promise<number> {
  const info = await getJson(context, '/info');
  const mappings = isObject(info['default_id_mappings']) ? info['default_id_mappings'] : {};
  context.output.stdout(
    [
      `cgroup driver: ${text(info['cgroup_driver'])}\n`,
      `storage driver: ${text(info['storage_driver'])}\n`,
      `storage graph root: ${text(info['storage_root'])}\n`,
      `storage image: ${text(info['storage_image'])}\n`,
      'default GID mappings (format <container>:<host>:<size>):\n',
      ...mappingLines(mappings['gids']),
      'default UID mappings (format <container>:<host>:<size>):\n',
      ...mappingLines(mappings['uids']),
    ].join(''),
  );
  return 0;
}

function mappingLines(value: unknown): readonly string[] {
  const entries: readonly unknown[] = Array.isArray(value) ? value : [];
  return entries
    .filter(isObject)
    .map((entry) => `  ${text(entry['container_id'])}:${text(entry['host_id'])}:${text(entry['size'])}\n`);
}

async function printContainer(context: CommandContext): Promise<number> {
  const id = stringFlag(context.flags, 'id') ?? '';
  if (id === '') throw new CrioError('invalid', 'the argument --id cannot be empty');
  const container = await getJson(context, `/containers/${encodeURIComponent(id)}`);
  const ips: readonly unknown[] = Array.isArray(container['ip_addresses']) ? container['ip_addresses'] : [];
  context.output.stdout(
    [
      `name: ${text(container['name'])}\n`,
      `pid: ${text(container['pid'])}\n`,
      `image: ${text(container['image'])}\n`,
      `image ref: ${text(container['image_ref'])}\n`,
      `created: ${text(container['created_time'])}\n`,
      'labels:\n',
      ...pairLines(container['labels']),
      'annotations:\n',
      ...pairLines(container['annotations']),
      'CRI-O annotations:\n',
      ...pairLines(container['crio_annotations']),
      `log path: ${text(container['log_path'])}\n`,
      `graph root: ${text(container['root'])}\n`,
      `sandbox: ${text(container['sandbox'])}\n`,
      `ips: ${ips.map(text).join(', ')}\n`,
    ].join(''),
  );
  return 0;
}

function pairLines(value: unknown): readonly string[] {
  return isObject(value) ? Object.entries(value).map(([key, entry]) => `  ${key}: ${text(entry)}\n`) : [];
}

async function printStacks(context: CommandContext): Promise<number> {
  context.output.stdout((await get(context, '/debug/goroutines')).toString('utf8'));
  return 0;
}

async function saveHeap(context: CommandContext): Promise<number> {
  const body = await get(context, '/debug/heap');
  const file = stringFlag(context.flags, 'file') ?? '';
  if (file === '-') {
    context.output.stdout(body.toString('latin1'));
    return 0;
  }
  const path =
    file === '' ? `crio-heap-${new Date().toISOString().replaceAll(':', '').replace(/\.\d+/, '')}.out` : file;
  writeFileSync(path, body);
  context.log.info(`Wrote heap dump to: ${path}`);
  return 0;
}

const idFlag = flag({ name: 'id', aliases: ['i'], usage: 'full id of the container' });
const fileFlag = flag({ name: 'file', aliases: ['f'], usage: 'file to write to, "-" for standard output' });

export const statusCommand: Command = {
  name: 'status',
  aliases: [],
  usage: 'ask the running daemon about itself and its containers',
  flags: [flag({ name: 'socket', aliases: ['s'], default: defaultSocket, usage: 'socket of the daemon' })],
  subcommands: [
    {
      name: 'config',
      aliases: ['c'],
      usage: 'show the effective configuration of the daemon',
      flags: [],
      run: printConfig,
    },
    {
      name: 'containers',
      aliases: ['container', 'cs', 's'],
      usage: 'show one container',
      flags: [idFlag],
      run: printContainer,
    },
    { name: 'info', aliases: ['i'], usage: 'show what the daemon runs on', flags: [], run: printInfo },
    { name: 'goroutines', aliases: ['g'], usage: 'show what the daemon is doing', flags: [], run: printStacks },
    { name: 'heap', aliases: ['hp'], usage: 'save a heap dump of the daemon', flags: [fileFlag], run: saveHeap },
  ],
};
