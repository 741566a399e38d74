import { join } from 'node:path';
import { env, getuid } from 'node:process';
import type { Call } from '../base/call.ts';
import { systemClock } from '../base/clock.ts';
import { CrioError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import type { Store } from '../storage/store.ts';
import { ArtifactCatalog } from './artifacts/artifact-catalog.ts';
import { dropDamagedBlobs } from './artifacts/artifact-damage.ts';
import { authFileProblems } from './auth/auth-file-problems.ts';
import { defaultAuthFiles } from './auth/find-credentials.ts';
import { removeUsedAuth } from './auth/namespaced-auth.ts';
import { Catalog } from './catalog.ts';
import { findImage, indexOf } from './find-image.ts';
import type { FoundImage, FoundRecord } from './find-image.ts';
import type { Image, Images } from './images.ts';
import { createPinFilter, pinPatterns } from './pinned.ts';
import { explainPolicy } from './policy/explain-policy.ts';
import type { Explanation } from './policy/explain-policy.ts';
import { loadConfiguredPolicy, systemPolicyPaths } from './policy/policy-file.ts';
import { policyProblems } from './policy/policy-problems.ts';
import { registriesDFolders } from './policy/registries-d.ts';
import { storedEvidence, verifyUse } from './policy/verify-use.ts';
import type { PullObserver, PullProgress } from './pull-progress.ts';
import { backgroundCall, PullService } from './pull-service.ts';
import type { Reference } from './reference.ts';
import { isInsecureHost } from './registries-conf.ts';
import type { RegistriesConf } from './registries-conf.ts';
import { findDamaged, removeArtifact, removeImage } from './remove-image.ts';
import type { RemovalContext } from './remove-image.ts';
import { loadRegistriesConf, registriesPaths } from './registries-file.ts';
import type { RegistriesPaths } from './registries-file.ts';
import { defaultCertificateDirs } from './registry/certificates.ts';
import { Endpoints } from './registry/endpoints.ts';
import { defaultLimits } from './registry/limits.ts';
import type { TransportLimits } from './registry/limits.ts';
import { configuredMode, resolveName } from './short-names.ts';
import { watchRegistries } from './watch-registries.ts';

export interface ImagesOptions {
  readonly store: Store;
  readonly config: Pick<Config, 'image'>;
  readonly log: Logger;
  /** Values of the flags `--registries-conf` and `--registries-conf-dir`; `$CONTAINERS_REGISTRIES_CONF` wins. */
  readonly registries?: { readonly file?: string; readonly dropInDir?: string };
  /** Makes the Call of a pull, which outlives the request that started it. */
  readonly newCall?: (name: string, signal: AbortSignal) => Call;
  /** Who uses an image as a volume; such an image is not removed. */
  readonly volumeUser?: (imageId: string) => string | undefined;
  /** `decryption_keys_path`, read at each pull; without it no encrypted image can be pulled. */
  readonly decryptionKeysPath?: () => string;
  /** `additional_artifact_stores` */
  readonly additionalArtifactStores?: readonly string[];
  /** Ends what uses the layers of an image that is about to be deleted. */
  readonly beforeDelete?: (imageId: string) => Promise<void>;
  /** Told what pulls do, for metrics. */
  readonly onPull?: PullObserver;
  /** Where things are and how long they may take, when not as usual; for tests. */
  readonly places?: Partial<ImagePlaces>;
}

export interface ImagePlaces {
  readonly registries: RegistriesPaths;
  readonly certificateDirs: readonly string[];
  readonly authFiles: readonly string[];
  readonly policyFiles: readonly string[];
  /** Folders of containers-registries.d(5), the last one wins. */
  readonly registriesD: readonly string[];
  readonly limits: TransportLimits;
}

export interface ImageService extends Images, AsyncDisposable {
  /** Pulls that run now. */
  pulls(): readonly PullProgress[];
  /**
   * Throws `SignatureValidationFailed: ...` when the configured policy (`signature_policy`, or the namespace's own)
   * refuses a local image or artifact under the name the user wrote. To be called before a container or image volume uses it.
   */
  verifyUse(request: {
    readonly imageId: string;
    readonly userSpecifiedImage: string;
    readonly namespace: string;
  }): Promise<void>;
  /** An artifact alone, as `find` does it; also where an image has the same name. */
  findArtifact(idOrName: string): Promise<Image | undefined>;
  /** Pulls an artifact of at most `maxBytes`, whatever `oci_artifact_mount_support` says, and returns it. */
  pullArtifact(
    call: Call,
    request: { readonly reference: string; readonly namespace: string; readonly maxBytes: number },
  ): Promise<Image>;
  /** Reads all artifacts, slowly, and takes away blobs that are damaged. */
  lookAtArtifacts(signal: AbortSignal): Promise<void>;
  /** Which rule decides for each name that `name` may stand for; with a signal the registry is asked, too. */
  explainPolicy(name: string, namespace: string, check?: AbortSignal): Promise<Explanation>;
  /** Takes over a new configuration and reads registries.conf again. On an error the old ones stay. */
  reload(config: Pick<Config, 'image'>): Promise<void>;
}

/** Opens the image feature: reads registries.conf, which must be valid. */
export async function createImages(options: ImagesOptions): Promise<ImageService> {
  const paths = options.places?.registries ?? registriesPaths(env, options.registries);
  await removeUsedAuth(options.config.image.namespacedAuthDir, options.log);
  const registries = await readRegistries(paths, options.log);
  const system = options.places?.policyFiles ?? systemPolicyPaths(env);
  const { image } = options.config;
  for (const line of [...(await policyProblems(image, system)), ...(await authFileProblems(image))])
    options.log.warn(line);
  return new StoredImages(options, paths, registries);
}

async function readRegistries(paths: RegistriesPaths, log: Logger): Promise<RegistriesConf> {
  const registries = await loadRegistriesConf(paths);
  for (const line of registries.warnings) log.warn(line);
  return registries;
}

class StoredImages implements ImageService {
  readonly #store: Store;
  readonly #options: ImagesOptions;
  readonly #registriesPaths: RegistriesPaths;
  readonly #catalog: Catalog;
  readonly #artifacts: ArtifactCatalog;
  readonly #endpoints: Endpoints;
  readonly #pulls: PullService;
  readonly #systemPolicyFiles: readonly string[];
  readonly #registriesD: readonly string[];
  #image: Config['image'];
  #registries: RegistriesConf;
  #isPinned: (names: readonly string[]) => boolean;
  readonly #watch: Disposable | undefined;
  readonly #stop = new AbortController();
  /** Of artifacts, in the background. */
  readonly #cleanUp: Promise<void>;

  constructor(options: ImagesOptions, paths: RegistriesPaths, registries: RegistriesConf) {
    const { store, log, places } = options;
    this.#options = options;
    this.#store = store;
    this.#registriesPaths = paths;
    this.#registries = registries;
    this.#image = options.config.image;
    this.#isPinned = this.#pinFilter();
    this.#catalog = new Catalog({ store, log, isPinned: this.#isPinned });
    this.#artifacts = new ArtifactCatalog(store.graphRoot, options.additionalArtifactStores ?? [], log);
    this.#cleanUp = this.#artifacts.own.cleanUp(this.#stop.signal);
    this.#endpoints = new Endpoints({
      limits: places?.limits ?? defaultLimits,
      certificateDirs: places?.certificateDirs ?? defaultCertificateDirs(env),
      isInsecure: (host) => isInsecureHost(this.#registries, host),
      log,
    });
    this.#registriesD = places?.registriesD ?? registriesDFolders(env);
    if (this.#image.autoReloadRegistries)
      this.#watch = watchRegistries({ folders: paths.dropInDirs, reload: () => this.#reloadRegistries(), log });
    this.#systemPolicyFiles = places?.policyFiles ?? systemPolicyPaths(env);
    this.#pulls = new PullService({
      store,
      artifacts: this.#artifacts,
      log,
      endpoints: this.#endpoints,
      authFiles: places?.authFiles ?? defaultAuthFiles(env, getuid?.() ?? 0),
      policyFiles: this.#systemPolicyFiles,
      registriesD: this.#registriesD,
      decryptionKeysPath: () => options.decryptionKeysPath?.() ?? '',
      settings: () => ({ image: this.#image, registries: this.#registries }),
      resolve: (name) => this.#resolve(name),
      newCall: (signal) => options.newCall?.('PullImage', signal) ?? backgroundCall('PullImage', log, signal),
      observer: options.onPull,
    });
  }

  async list() {
    const [{ images }, artifacts] = await Promise.all([this.#catalog.snapshot(), this.#listArtifacts()]);
    return artifacts.length === 0 ? images : [...images, ...artifacts];
  }

  async find(idOrName: string) {
    return ((await this.#findImage(idOrName)) ?? (await this.#findArtifact(idOrName)))?.image;
  }

  async pull(...[call, request]: Parameters<Images['pull']>) {
    const id = await this.#pulls.pull(call, request);
    const image =
      (await this.#catalog.snapshot()).byId(id) ?? (await this.#listArtifacts()).find((item) => item.id === id);
    if (image === undefined)
      throw new CrioError('not-found', `pull "${request.reference}": image ${id} was removed meanwhile`);
    return image;
  }

  async findArtifact(idOrName: string) {
    return (await this.#findArtifact(idOrName))?.image;
  }

  async pullArtifact(...[call, { reference, namespace, maxBytes }]: Parameters<ImageService['pullArtifact']>) {
    const request = { reference, namespace, credentials: undefined, cgroupParent: '', artifactOnly: { maxBytes } };
    const id = await this.#pulls.pull(call, request);
    const artifact = (await this.#artifacts.list(() => false)).find((item) => item.id === id);
    if (artifact === undefined)
      throw new CrioError('not-found', `pull "${reference}": artifact ${id} was removed meanwhile`);
    return artifact;
  }

  async remove(call: Call, idOrName: string) {
    const context = this.#removalContext();
    const image = await this.#findImage(idOrName);
    const damaged = image === undefined ? await this.#findDamaged(idOrName) : undefined;
    const id = image?.image.id ?? damaged?.record.id;
    if (id !== undefined) await removeImage(context, call, { id, name: (image ?? damaged)?.name });
    const artifact = (await this.#findArtifact(idOrName)) ?? (await this.#findDamagedArtifact(idOrName));
    if (artifact !== undefined) await removeArtifact(context, artifact);
  }

  #removalContext(): RemovalContext {
    const { volumeUser, beforeDelete } = this.#options;
    return { store: this.#store, artifacts: this.#artifacts, volumeUser, beforeDelete };
  }

  async damageOf(idOrName: string) {
    const damaged = await this.#findDamaged(idOrName);
    return damaged === undefined ? undefined : this.#store.health.damageOf(damaged.record.id);
  }

  async lookAtArtifacts(signal: AbortSignal) {
    await this.#cleanUp;
    await dropDamagedBlobs(this.#artifacts.own, signal, this.#options.log);
  }

  async usage() {
    const { imageRoot, graphRoot } = await this.#store.layers.usage();
    const mountPoint = join(
      this.#store.imageStore === '' ? this.#store.graphRoot : this.#store.imageStore,
      `${this.#store.driverName}-images`,
    );
    return {
      mountPoint,
      usedBytes: imageRoot.bytes,
      inodesUsed: imageRoot.inodes,
      inGraphRoot: { usedBytes: graphRoot.bytes, inodesUsed: graphRoot.inodes },
      timestampNs: systemClock.nowNs(),
    };
  }

  pulls() {
    return this.#pulls.progress();
  }

  async verifyUse(request: Parameters<ImageService['verifyUse']>[0]) {
    await verifyUse({
      ...request,
      evidenceOf: async (id) => (await storedEvidence(this.#store.images, id)) ?? this.#artifacts.evidenceOf(id),
      policy: await loadConfiguredPolicy(this.#image, request.namespace),
      resolve: (name) => this.#resolve(name),
    });
  }

  async explainPolicy(name: string, namespace: string, signal?: AbortSignal) {
    const endpoints = this.#endpoints;
    return explainPolicy({
      image: this.#image,
      name,
      namespace,
      registries: this.#registries,
      systemPolicyFiles: this.#systemPolicyFiles,
      registriesD: this.#registriesD,
      ...(signal && { check: { endpoints, signal, placesFor: (reference) => this.#pulls.placesFor(reference) } }),
    });
  }

  async reload(config: Pick<Config, 'image'>) {
    await this.#reloadRegistries(config.image);
  }

  async #reloadRegistries(image?: Config['image']) {
    this.#registries = await readRegistries(this.#registriesPaths, this.#options.log);
    if (image !== undefined) this.#image = image;
    // Short names may stand for others now, that of the pause image too.
    this.#isPinned = this.#pinFilter();
    this.#catalog.setPins(this.#isPinned);
    // Certificates and what is known about servers may be out of date.
    this.#endpoints.forget();
    this.#options.log.info('Applied new registry configuration');
  }

  async [Symbol.asyncDispose]() {
    this.#stop.abort(new CrioError('canceled', 'the daemon is shutting down'));
    await this.#cleanUp;
    this.#watch?.[Symbol.dispose]();
    await this.#pulls.stop();
    this.#endpoints[Symbol.dispose]();
    this.#artifacts.own[Symbol.dispose]();
  }

  async #findImage(idOrName: string): Promise<FoundImage | undefined> {
    return findImage(await this.#catalog.snapshot(), checkName(idOrName), (text) => this.#resolve(text));
  }

  #findDamaged(idOrName: string): Promise<FoundRecord | undefined> {
    return findDamaged(this.#store, checkName(idOrName), (text) => this.#resolve(text));
  }

  async #findDamagedArtifact(idOrName: string): Promise<FoundImage | undefined> {
    if (!this.#image.ociArtifactMountSupport) return undefined;
    const damaged = await this.#artifacts.damaged();
    return findImage(indexOf(damaged), checkName(idOrName), (text) => this.#resolve(text));
  }

  async #findArtifact(idOrName: string): Promise<FoundImage | undefined> {
    const artifacts = await this.#listArtifacts();
    if (artifacts.length === 0) return undefined;
    return findImage(indexOf(artifacts), checkName(idOrName), (text) => this.#resolve(text));
  }

  async #listArtifacts(): Promise<readonly Image[]> {
    if (!this.#image.ociArtifactMountSupport) return [];
    return this.#artifacts.list(this.#isPinned);
  }

  /** The pause image is always pinned. */
  #pinFilter(): (names: readonly string[]) => boolean {
    const { pinnedImages, pauseImage } = this.#image;
    return createPinFilter([...pinnedImages, ...pinPatterns(pauseImage, (name) => this.#resolve(name))]);
  }

  #resolve(name: string): readonly Reference[] {
    return resolveName(this.#registries, configuredMode(this.#image.shortNameMode), name);
  }
}

function checkName(idOrName: string): string {
  const name = idOrName.replace(/^docker:\/\//, '');
  if (name === '') throw new CrioError('invalid', 'no image specified');
  return name;
}
