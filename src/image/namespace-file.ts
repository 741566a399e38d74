import { join } from 'node:path';

/** A Kubernetes namespace is a DNS label (RFC 1123); anything else must not become part of a path. */
const dnsLabel = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/;

/** `<dir>/<namespace><suffix>.json`; undefined without a folder, and for what is no namespace. */
export function namespaceFile(dir: string, namespace: string, suffix = ''): string | undefined {
  return dir !== '' && dnsLabel.test(namespace) ? join(dir, `${namespace}${suffix}.json`) : undefined;
}
