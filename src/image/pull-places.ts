import type { Logger } from '../base/log.ts';
import { findCredentials } from './auth/find-credentials.ts';
import { requestCredentials } from './auth/request-credentials.ts';
import { anonymous } from './auth/resolved-credentials.ts';
import type { Credentials } from './images.ts';
import type { Reference } from './reference.ts';
import { pullSources } from './registries-conf.ts';
import type { RegistriesConf } from './registries-conf.ts';
import type { Endpoints } from './registry/endpoints.ts';
import { Place } from './registry/places.ts';

export interface PlacesOptions {
  readonly registries: RegistriesConf;
  readonly endpoints: Endpoints;
  /** Of the request. */
  readonly credentials: Credentials | undefined;
  /** The only auth file to read, when set. */
  readonly explicitAuthFile: string | undefined;
  /** Those to read otherwise. */
  readonly authFiles: readonly string[];
  readonly log: Logger;
}

/** Where a name may be read, best first, with the credentials for each. Throws when its registry is blocked. */
export function placesFor(logical: Reference, options: PlacesOptions): readonly Place[] {
  const { registries, endpoints, credentials, log } = options;
  const files = {
    explicit: options.explicitAuthFile,
    defaults: options.authFiles,
    helpers: registries.credentialHelpers,
  };
  return pullSources(registries, logical).map(
    (source) =>
      new Place({
        source,
        endpoint: endpoints.get(source.reference.domain, source.insecure),
        log,
        findCredentials: async (signal) =>
          requestCredentials(credentials, logical, source) ??
          (await findCredentials(files, source.reference, signal)) ??
          anonymous,
      }),
  );
}
