import { CrioError } from '../base/errors.ts';
import type { PodConfig } from './config.ts';

/**
 * Text of a pod's resolv.conf; undefined when the request has nothing to say and the host's file is taken. Pure.
 * A line break inside a value would be another line for the resolver.
 */
export function formatResolvConf(dns: PodConfig['dns']): string | undefined {
  const { servers, searches, options } = dns;
  if (servers.length + searches.length + options.length === 0) return undefined;
  for (const value of [...servers, ...searches, ...options]) checkOneLine('DNS setting', value);
  let text = '';
  if (searches.length > 0) text += `search ${searches.join(' ')}\n`;
  for (const server of servers) text += `nameserver ${server}\n`;
  if (options.length > 0) text += `options ${options.join(' ')}\n`;
  return text;
}

/** The request's hostname, that of the host for a pod on its network, else the first 12 characters of the id. */
export function chooseHostname(options: {
  requested: string;
  hostNetwork: boolean;
  hostHostname: string;
  id: string;
}): string {
  if (options.requested !== '') {
    checkOneLine('hostname', options.requested);
    return options.requested;
  }
  return options.hostNetwork ? options.hostHostname : options.id.slice(0, 12);
}

function checkOneLine(what: string, value: string): void {
  if (/[\0\r\n]/.test(value))
    throw new CrioError('invalid', `${what} ${JSON.stringify(value)}: line breaks are not allowed`);
}
