import { createHash } from 'node:crypto';
import { Call } from '../base/call.ts';
import { CrioError, kindOf, messageOf } from '../base/errors.ts';
import type { ImageId } from '../base/ids.ts';
import { newId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import type { Store } from '../storage/store.ts';
import type { ArtifactCatalog } from './artifacts/artifact-catalog.ts';
import type { RunningBlobs } from './bring-once.ts';
import { requireAuthFile } from './auth/auth-file.ts';
import { configuredAuthFile } from './auth/configured-auth-file.ts';
import { takeNamespacedAuth } from './auth/namespaced-auth.ts';
import { readDecryptionKeys } from './encryption/decryption-keys.ts';
import type { Credentials, PullOptions } from './images.ts';
import { JoinedWork } from './joined-work.ts';
import { PolicyError } from './policy/decide.ts';
import { fetchSignatures } from './policy/fetch-signatures.ts';
import type { SignedManifest } from './policy/fetch-signatures.ts';
import { loadPolicy } from './policy/policy-file.ts';
import { loadRegistriesD } from './policy/registries-d.ts';
import type { SignaturesByDigest } from './policy/stored-signatures.ts';
import { pullImage } from './pull.ts';
import { placesFor } from './pull-places.ts';
import { PullTracker } from './pull-progress.ts';
import type { PullObserver, PullProgress } from './pull-progress.ts';
import { formatReference } from './reference.ts';
import type { Reference } from './reference.ts';
import type { RegistriesConf } from './registries-conf.ts';
import type { Endpoints } from './registry/endpoints.ts';
import { failureLabel, hasCause, isRegistryUnavailable } from './registry/failures.ts';
import type { Place } from './registry/places.ts';

/** What may change while the daemon runs; read at the start of each pull. */
export interface PullSettings {
  readonly image: Config['image'];
  readonly registries: RegistriesConf;
}

export interface PullServiceOptions {
  readonly store: Store;
  readonly artifacts: ArtifactCatalog;
  readonly log: Logger;
  readonly endpoints: Endpoints;
  readonly authFiles: readonly string[];
  readonly policyFiles: readonly string[];
  /** Folders of containers-registries.d(5), the last one wins. */
  readonly registriesD: readonly string[];
  /** `decryption_keys_path`; empty for none. */
  decryptionKeysPath(): string;
  settings(): PullSettings;
  resolve(name: string): readonly Reference[];
  /** Makes the Call of a pull, which outlives the request that started it. */
  newCall(signal: AbortSignal): Call;
  readonly observer?: PullObserver | undefined;
}

/** What this process itself asks for beyond a pull of the CRI. */
export interface PullOnly {
  /** Refuse an image; an artifact may have this many bytes. */
  readonly artifactOnly?: { readonly maxBytes: number };
}

type Request = PullOptions & PullOnly;

/** After the last waiter has gone, a pull goes on this long: kubelet comes back for it. */
const graceMs = 60_000;

/** Runs pulls: joins the same ones, finds policy and credentials, and gives errors the texts that kubelet knows. */
export class PullService {
  readonly #options: PullServiceOptions;
  readonly #pulls = new JoinedWork<ImageId>({ graceMs });
  readonly #running: RunningBlobs = { work: new JoinedWork({ graceMs: 0 }), leaders: new Map() };
  readonly #trackers = new Set<PullTracker>();

  constructor(options: PullServiceOptions) {
    this.#options = options;
  }

  /** What is being pulled now. */
  progress(): readonly PullProgress[] {
    return [...this.#trackers].map((tracker) => tracker.snapshot);
  }

  /** Ends all pulls, for a shutdown; what they unpacked goes. */
  async stop(): Promise<void> {
    const reason = new CrioError('canceled', 'context canceled: the daemon is shutting down');
    await this.#pulls.abortAll(reason);
    await this.#running.work.abortAll(reason);
  }

  async pull(caller: Call, request: Request): Promise<ImageId> {
    const name = request.reference.replace(/^docker:\/\//, '');
    if (name === '') throw new CrioError('invalid', 'no image specified');
    const candidates = this.#candidates(name);
    const { result } = this.#pulls.join(joinKey(request), caller.signal, (signal) =>
      this.#run(request, candidates, signal),
    );
    return result;
  }

  #candidates(name: string): readonly Reference[] {
    try {
      return this.#options.resolve(name);
    } catch (error) {
      this.#options.log.warn(`Pull of image ${name} failed`, error);
      throw error;
    }
  }

  async #run(request: Request, candidates: readonly Reference[], signal: AbortSignal): Promise<ImageId> {
    const { log, observer } = this.#options;
    const tracker = new PullTracker(request.reference, request.namespace, observer);
    this.#trackers.add(tracker);
    const stalled = new AbortController();
    const timer = this.#watchProgress(tracker, stalled);
    log.info(`Pulling image: ${request.reference}`);
    try {
      const id = await this.#pull(request, candidates, tracker, AbortSignal.any([signal, stalled.signal]));
      tracker.setPhase('done');
      observer?.pullDone(undefined);
      log.info(`Pulled image: ${id}`);
      return id;
    } catch (error) {
      tracker.setPhase('failed');
      observer?.pullDone(failureLabel(error));
      const answer = clientError(error);
      // Nobody may be waiting for the answer any more, and whoever is may not tell it.
      log.warn(`Pull of image ${request.reference} failed`, answer);
      throw answer;
    } finally {
      clearInterval(timer);
      this.#trackers.delete(tracker);
    }
  }

  async #pull(
    request: Request,
    candidates: readonly Reference[],
    tracker: PullTracker,
    signal: AbortSignal,
  ): Promise<ImageId> {
    const { store, log } = this.#options;
    const settings = this.#options.settings();
    const call = this.#options.newCall(signal);
    const { artifactOnly } = request;
    const policy = await loadPolicy(settings.image, request.namespace, this.#options.policyFiles);
    log.debug(() => `Using pull policy path for image ${request.reference}: "${policy.path}"`);
    if (request.authFile !== undefined) await requireAuthFile(request.authFile);
    await using namespaced =
      request.authFile === undefined ? await this.#takeAuth(settings, request.namespace, candidates) : undefined;
    const explicit = request.authFile ?? namespaced?.path ?? configuredAuthFile(settings.image, request.reference);
    // Awaited here: the file of the namespace is deleted when this scope ends, and the last place may need it.
    return await pullImage(
      {
        store,
        log,
        running: this.#running,
        signaturesOf: (fetched, signal) => this.#signatures(fetched, signal),
        decryptionKeys: () => readDecryptionKeys(this.#options.decryptionKeysPath(), log),
        artifacts:
          settings.image.ociArtifactMountSupport || artifactOnly !== undefined ? this.#options.artifacts : undefined,
        placesFor: (reference) => this.#places(settings, request.credentials, reference, explicit),
      },
      { candidates, policy, call, tracker, ...(artifactOnly === undefined ? {} : { artifactOnly }) },
    );
  }

  async #takeAuth(settings: PullSettings, namespace: string, candidates: readonly Reference[]) {
    for (const reference of candidates) {
      const taken = await takeNamespacedAuth(settings.image.namespacedAuthDir, namespace, reference, this.#options.log);
      if (taken !== undefined) return taken;
    }
    return undefined;
  }

  /** Where a pull without a request of its own would look: with the credentials of the machine. */
  placesFor(reference: Reference): readonly Place[] {
    const settings = this.#options.settings();
    return this.#places(settings, undefined, reference, configuredAuthFile(settings.image, formatReference(reference)));
  }

  #places(
    { registries }: PullSettings,
    credentials: Credentials | undefined,
    logical: Reference,
    explicitAuthFile: string | undefined,
  ): readonly Place[] {
    const { endpoints, authFiles, log } = this.#options;
    return placesFor(logical, { registries, endpoints, credentials, explicitAuthFile, authFiles, log });
  }

  async #signatures(image: SignedManifest, signal: AbortSignal): Promise<SignaturesByDigest> {
    const { endpoints, registriesD } = this.#options;
    return fetchSignatures(image, { config: await loadRegistriesD(registriesD), endpoints, signal });
  }

  /** `pull_progress_timeout`; 0 means no limit. */
  #watchProgress(tracker: PullTracker, stalled: AbortController): NodeJS.Timeout | undefined {
    const timeoutMs = this.#options.settings().image.pullProgressTimeoutMs;
    if (timeoutMs <= 0) return undefined;
    const check = () => {
      if (tracker.idleMs > timeoutMs) {
        stalled.abort(
          new CrioError('canceled', `context canceled: no progress for ${timeoutMs / 1000} s (pull_progress_timeout)`),
        );
      }
    };
    return setInterval(check, Math.max(10, timeoutMs / 10)).unref();
  }
}

/** A Call for work that no request owns. */
export function backgroundCall(name: string, log: Logger, signal: AbortSignal): Call {
  return new Call({ name, id: newId().slice(0, 12), log, signal });
}

/** Pulls are the same when all that decides their result is. The secret itself is not kept. */
function joinKey(request: Request): string {
  const { reference, cgroupParent, namespace, credentials = null, authFile = null, artifactOnly = null } = request;
  const parts = [reference, cgroupParent, namespace, credentials, authFile, artifactOnly];
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64');
}

/** Kubelet looks for the two prefixes; the third is CRI-O's for everything else. */
function clientError(error: unknown): CrioError {
  const kind = kindOf(error);
  if (kind === 'canceled')
    return error instanceof CrioError ? error : new CrioError('canceled', 'context canceled', { cause: error });
  const text = messageOf(error);
  if (hasCause(error, (cause) => cause instanceof PolicyError))
    return new CrioError('unknown', `SignatureValidationFailed: ${text}`, { cause: error });
  if (isRegistryUnavailable(error)) return new CrioError('unknown', `RegistryUnavailable: ${text}`, { cause: error });
  return new CrioError('unknown', `unable to pull image: ${text}`, { cause: error });
}
