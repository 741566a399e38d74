import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Call } from '../../base/call.ts';
import { silentLog } from '../../base/log.ts';
import { defaultConfig } from '../../config/config.ts';
import type { Store } from '../../storage/store.ts';
import { createImages } from '../create-images.ts';
import type { ImagePlaces, ImageService, ImagesOptions } from '../create-images.ts';
import type { Credentials } from '../images.ts';

export interface OpenImagesOptions extends Pick<ImagesOptions, 'decryptionKeysPath'> {
  readonly store: Store;
  /** For registries.conf and policy.json. */
  readonly folder: string;
  /** Of registries.conf. */
  readonly toml: string;
  /** A policy file; without it everything is accepted. */
  readonly policy?: string;
  readonly places?: Partial<ImagePlaces>;
}

/** The image feature without anything of this machine's configuration: no credentials, no certificates. */
export function openImages({ store, folder, toml, policy, places, ...more }: OpenImagesOptions): Promise<ImageService> {
  const file = join(folder, `registries-${Math.random()}.conf`);
  const accept = join(folder, 'accept.json');
  writeFileSync(file, toml);
  if (policy === undefined) writeFileSync(accept, '{"default":[{"type":"insecureAcceptAnything"}]}');
  return createImages({
    ...more,
    store,
    log: silentLog,
    config: { image: { ...defaultConfig().image, namespacedAuthDir: '', signaturePolicyDir: '' } },
    places: {
      registries: { file, dropInDirs: [], aliasFile: '/nonexistent' },
      policyFiles: [policy ?? accept],
      registriesD: [],
      authFiles: [],
      certificateDirs: [],
      ...places,
    },
  });
}

/** Of registries.conf: these hosts speak plain HTTP. */
export function insecure(...hosts: readonly string[]): string {
  return hosts.map((host) => `[[registry]]\nlocation = "${host}"\ninsecure = true\n`).join('');
}

/** Returns the image's id. */
export async function pull(
  images: ImageService,
  reference: string,
  credentials?: Partial<Credentials>,
): Promise<string> {
  const blank: Credentials = { username: '', password: '', identityToken: '', registryToken: '', serverAddress: '' };
  const call = new Call({ name: 'PullImage', id: 't', log: silentLog });
  const request = { reference, namespace: '', cgroupParent: '' };
  return (await images.pull(call, { ...request, credentials: credentials && { ...blank, ...credentials } })).id;
}
