import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { CrioError, hasCode, wrap } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import type { Reference } from '../reference.ts';
import type { Endpoints } from '../registry/endpoints.ts';
import { readAll } from '../registry/http.ts';
import { bodyLimits } from '../registry/limits.ts';
import { readRegistryError } from '../registry/registry-error.ts';
import { withRetries } from '../registry/retry.ts';

const maxSignatures = 128;
/** Of all signatures of a manifest together: they are held in memory. */
const maxTotalBytes = 4 * bodyLimits.signature;
/** All pauses before a server is asked again: pulls wait for it that need no signature. */
const maxPausesMs = 5000;

/**
 * Simple signatures of a manifest in a lookaside store: `<base>/<repository path>@<algorithm>=<hex>/signature-<n>`, from 1
 * on up to the first that is missing (container-signature(5), containers-registries.d(5)).
 */
export async function fetchLookaside(
  base: string,
  image: { readonly reference: Reference; readonly digest: Digest },
  { endpoints, signal }: { readonly endpoints: Endpoints; readonly signal: AbortSignal },
): Promise<readonly Buffer[]> {
  const folder = folderUrl(base, image);
  const signatures: Buffer[] = [];
  const budget = { leftMs: maxPausesMs };
  let total = 0;
  for (;;) {
    const url = new URL(folder);
    url.pathname += `/signature-${signatures.length + 1}`;
    const data =
      url.protocol === 'file:' ? await readFileUrl(url) : await readHttpUrl(url, { endpoints, signal, budget });
    if (data === undefined) return signatures;
    if (signatures.length === maxSignatures)
      throw new CrioError(
        'resource-exhausted',
        `read signatures below "${shownUrl(folder)}": more than ${maxSignatures}`,
      );
    total += data.length;
    if (total > maxTotalBytes)
      throw new CrioError(
        'resource-exhausted',
        `read signatures below "${shownUrl(folder)}": more than ${maxTotalBytes} bytes`,
      );
    signatures.push(data);
  }
}

/** Path and digest are checked ones: nothing in them leads out of the store. */
function folderUrl(
  base: string,
  { reference, digest }: { readonly reference: Reference; readonly digest: Digest },
): URL {
  let url: URL;
  try {
    url = new URL(base);
  } catch {
    throw new CrioError('invalid', 'the lookaside of registries.d is no URL');
  }
  if (!['file:', 'http:', 'https:'].includes(url.protocol))
    throw new CrioError('invalid', `lookaside "${shownUrl(url)}": only file, http and https are supported`);
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/${reference.path}@${digest.replace(':', '=')}`;
  return url;
}

/** For people and logs: a lookaside may have a user and a password in it. */
export function shownUrl(url: URL): string {
  const shown = new URL(url);
  if (shown.username !== '') shown.username = 'xxxxx';
  if (shown.password !== '') shown.password = 'xxxxx';
  return shown.href;
}

async function readFileUrl(url: URL): Promise<Buffer | undefined> {
  try {
    await using file = await open(fileURLToPath(url));
    const buffer = Buffer.alloc(bodyLimits.signature + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, length);
      length += bytesRead;
      if (bytesRead === 0 || length === buffer.length) break;
    }
    if (length > bodyLimits.signature)
      throw new CrioError('resource-exhausted', `more than ${bodyLimits.signature} bytes`);
    return Buffer.from(buffer.subarray(0, length));
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw wrap(`read signature "${shownUrl(url)}"`, error);
  }
}

/** Without credentials: those of the registry are not for another server. */
async function readHttpUrl(
  url: URL,
  { endpoints, signal, budget }: { endpoints: Endpoints; signal: AbortSignal; budget: { leftMs: number } },
): Promise<Buffer | undefined> {
  const endpoint = endpoints.get(url.host, url.protocol === 'http:');
  try {
    await endpoint.readCertificates();
    return await withRetries({ endpoint, signal, log: endpoint.log, budget }, async () => {
      const response = await endpoint.send({ target: url, signal });
      if (response.status === 200) return readAll(response, bodyLimits.signature, 'signature');
      if (response.status !== 404) throw await readRegistryError(response);
      response.discard();
      return undefined;
    });
  } catch (error) {
    throw wrap(`read signature "${shownUrl(url)}"`, error);
  }
}
