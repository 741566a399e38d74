import { messageOf, wrap, CrioError } from '../../base/errors.ts';
import { goJson, type Json, type JsonObject } from '../../base/go-json.ts';
import type { Logger } from '../../base/log.ts';
import { checkAttachment, type NetworkList, type PluginConfig } from './network-list.ts';
import type { PluginFiles } from './plugin-files.ts';
import { runPlugin, type Verb } from './plugin.ts';
import { formatResult, parseResult, type CniResult } from './result.ts';
import { isAtLeast } from './version.ts';

/** One interface of one pod: what every plugin of the chain is told. */
export interface Attachment {
  readonly containerId: string;
  readonly netns: string;
  readonly ifName: string;
  /** CNI_ARGS, in order */
  readonly args: readonly (readonly [string, string])[];
  /** Values for the capabilities that plugins declare */
  readonly capabilities: JsonObject;
}

/** How plugins are found and for how long they may run. */
export interface ChainOptions {
  readonly plugins: PluginFiles;
  /** Milliseconds on the monotonic clock (performance.now) at which a running plugin is killed. */
  readonly deadlineMs: number;
  /** Called when the first plugin of the chain runs. */
  readonly onStarted?: () => void;
  readonly log: Logger;
}

/** Runs ADD of each plugin in order, each with the result of the one before. Nothing is undone here. */
export async function addChain(list: NetworkList, attachment: Attachment, options: ChainOptions): Promise<CniResult> {
  checkAttachment(list.name, attachment.containerId, attachment.ifName);
  let previous: CniResult | undefined;
  for (const plugin of list.plugins) {
    try {
      const prevResult = previous === undefined ? undefined : formatResult(previous, previous.cniVersion);
      const output = await invoke('ADD', plugin, { list, attachment, prevResult, options });
      previous = parseResult(output, list.cniVersion);
    } catch (error) {
      throw wrap(`plugin ${describe(plugin)} failed (add)`, error);
    }
  }
  if (previous === undefined) throw new CrioError('invalid', `network "${list.name}" has no plugins`);
  return previous;
}

/**
 * Runs DEL of each plugin in reverse order. A plugin that fails does not keep the others from their clean-up; the
 * first error is thrown at the end.
 */
export async function deleteChain(
  list: NetworkList,
  attachment: Attachment,
  cached: CniResult | undefined,
  options: ChainOptions,
): Promise<void> {
  const prevResult =
    cached !== undefined && isAtLeast(list.cniVersion, '0.4.0') ? formatResult(cached, list.cniVersion) : undefined;
  const errors: unknown[] = [];
  for (const plugin of list.plugins.toReversed()) {
    try {
      await invoke('DEL', plugin, { list, attachment, prevResult, options });
    } catch (error) {
      errors.push(wrap(`plugin ${describe(plugin)} failed (delete)`, error));
    }
  }
  if (errors.length > 0) throw errors[0];
}

/** STATUS of each plugin; versions before 1.1.0 have no such verb and are always fine. Throws the plugin's text. */
export async function statusOfChain(list: NetworkList, options: ChainOptions): Promise<void> {
  if (!isAtLeast(list.cniVersion, '1.1.0')) return;
  for (const plugin of list.plugins) await invoke('STATUS', plugin, { list, options });
}

/** Whether the plugins of a list are asked to collect garbage: the verb came with 1.1.0. */
export function hasGc(list: NetworkList): boolean {
  return !list.disableGc && isAtLeast(list.cniVersion, '1.1.0');
}

/** GC of each plugin of a list. Errors are collected, one per line. */
export async function collectChain(
  list: NetworkList,
  valid: readonly { readonly containerID: string; readonly ifname: string }[],
  options: ChainOptions,
): Promise<void> {
  if (!hasGc(list)) return;
  const attachments = valid.length === 0 ? null : valid.map((item) => ({ ...item }));
  const extra = { 'cni.dev/valid-attachments': attachments, 'cni.dev/attachments': attachments };
  const errors: string[] = [];
  for (const plugin of list.plugins) {
    try {
      await invoke('GC', plugin, { list, extra, options });
    } catch (error) {
      errors.push(`failed to GC plugin ${plugin.type}: ${messageOf(error)}`);
    }
  }
  if (errors.length > 0) throw new CrioError('unknown', errors.join('\n'));
}

interface Invocation {
  readonly list: NetworkList;
  readonly attachment?: Attachment;
  readonly prevResult?: JsonObject | undefined;
  readonly extra?: { readonly [key: string]: Json };
  readonly options: ChainOptions;
}

async function invoke(command: Verb, plugin: PluginConfig, invocation: Invocation): Promise<string> {
  const { list, attachment, options } = invocation;
  const known = options.plugins.known(plugin.type);
  const file = known ?? (await options.plugins.find(plugin.type));
  const running = runPlugin({
    file,
    environment: {
      command,
      containerId: attachment?.containerId ?? '',
      netns: attachment?.netns ?? '',
      ifName: attachment?.ifName ?? '',
      args: formatArgs(attachment?.args ?? []),
      path: options.plugins.path,
    },
    stdin: pluginInput(plugin, list, { ...invocation, capabilities: attachment?.capabilities ?? {} }),
    timeoutMs: Math.max(1, options.deadlineMs - performance.now()),
    log: options.log,
  });
  options.onStarted?.();
  return running;
}

/** The plugin's object with name and version of the list, previous result and runtime configuration. Pure. */
export function pluginInput(
  plugin: PluginConfig,
  list: { readonly name: string; readonly cniVersion: string },
  runtime: {
    readonly capabilities?: JsonObject;
    readonly prevResult?: JsonObject | undefined;
    readonly extra?: { readonly [key: string]: Json };
  },
): string {
  const supplied = Object.entries(runtime.capabilities ?? {}).filter(([name]) => plugin.capabilities.has(name));
  return goJson({
    ...plugin.object,
    name: list.name,
    cniVersion: list.cniVersion,
    ...(runtime.prevResult === undefined ? {} : { prevResult: runtime.prevResult }),
    ...(supplied.length === 0 ? {} : { runtimeConfig: Object.fromEntries(supplied) }),
    ...runtime.extra,
  });
}

export function formatArgs(args: readonly (readonly [string, string])[]): string {
  return args.map(([key, value]) => `${key}=${value}`).join(';');
}

function describe(plugin: PluginConfig): string {
  const type = `type=${JSON.stringify(plugin.type)}`;
  return plugin.name === '' ? type : `${type} name=${JSON.stringify(plugin.name)}`;
}
