import { getuid } from 'node:process';
import type { Logger } from '../../base/log.ts';
import { configuredAuthFile } from '../auth/configured-auth-file.ts';
import type { AuthFileSettings } from '../auth/configured-auth-file.ts';
import { defaultAuthFiles } from '../auth/find-credentials.ts';
import { placesFor } from '../pull-places.ts';
import { formatReference } from '../reference.ts';
import { isInsecureHost } from '../registries-conf.ts';
import { loadRegistriesConf, registriesPaths } from '../registries-file.ts';
import { defaultCertificateDirs } from '../registry/certificates.ts';
import { Endpoints } from '../registry/endpoints.ts';
import { defaultLimits } from '../registry/limits.ts';
import { explainPolicy } from './explain-policy.ts';
import type { Explanation, PolicySettings } from './explain-policy.ts';
import { systemPolicyPaths } from './policy-file.ts';
import { registriesDFolders } from './registries-d.ts';

export interface FilesOptions {
  readonly image: PolicySettings & AuthFileSettings;
  readonly name: string;
  readonly namespace: string;
  /** Values of the flags `--registries-conf` and `--registries-conf-dir`. */
  readonly registries: { readonly file?: string; readonly dropInDir?: string };
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  /** Asks the registry, too. */
  readonly isChecked: boolean;
}

/** What a daemon with this configuration would say; needs none. */
export async function explainFromFiles(options: FilesOptions): Promise<Explanation> {
  const { image, env, log } = options;
  const registries = await loadRegistriesConf(registriesPaths(env, options.registries));
  for (const line of registries.warnings) log.warn(line);
  using endpoints = new Endpoints({
    limits: defaultLimits,
    certificateDirs: defaultCertificateDirs(env),
    isInsecure: (host) => isInsecureHost(registries, host),
    log,
  });
  const authFiles = defaultAuthFiles(env, getuid?.() ?? 0);
  const check = {
    endpoints,
    signal: new AbortController().signal,
    placesFor: (reference: Parameters<typeof placesFor>[0]) =>
      placesFor(reference, {
        registries,
        endpoints,
        credentials: undefined,
        explicitAuthFile: configuredAuthFile(image, formatReference(reference)),
        authFiles,
        log,
      }),
  };
  return await explainPolicy({
    ...options,
    registries,
    systemPolicyFiles: systemPolicyPaths(env),
    registriesD: registriesDFolders(env),
    ...(options.isChecked ? { check } : {}),
  });
}
