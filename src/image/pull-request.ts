import type { KeyObject } from 'node:crypto';
import type { Call } from '../base/call.ts';
import type { Logger } from '../base/log.ts';
import type { Store } from '../storage/store.ts';
import type { RunningBlobs } from './bring-once.ts';
import type { ArtifactCatalog } from './artifacts/artifact-catalog.ts';
import type { FetchedManifest } from './fetch-image.ts';
import type { Policy } from './policy/policy-file.ts';
import type { SignaturesByDigest } from './policy/stored-signatures.ts';
import type { ImageManifest } from './manifest.ts';
import type { PullTracker } from './pull-progress.ts';
import type { Reference } from './reference.ts';
import type { Place } from './registry/places.ts';

export interface PullDependencies {
  readonly store: Store;
  /** What all pulls are working on. */
  readonly running: RunningBlobs;
  /** Undefined when artifacts are switched off. */
  readonly artifacts: ArtifactCatalog | undefined;
  readonly log: Logger;
  /** Signatures of an image, from where registries.d says to look for them. */
  signaturesOf(image: FetchedManifest, signal: AbortSignal): Promise<SignaturesByDigest>;
  /** Private keys for encrypted layers. */
  decryptionKeys(): Promise<readonly KeyObject[]>;
  /** Places to read a name from, best first. Throws when its registry is blocked. */
  placesFor(reference: Reference): readonly Place[];
}

export interface PullRequest {
  /** Complete names the request may mean, in the order to try. */
  readonly candidates: readonly Reference[];
  readonly policy: Policy;
  readonly call: Call;
  readonly tracker: PullTracker;
  /** Set when only an artifact will do, with the most bytes that it may have. */
  readonly artifactOnly?: { readonly maxBytes: number };
}

/** What an image is stored under, and what was shown for it. */
export interface Target {
  readonly reference: Reference;
  readonly signatures: SignaturesByDigest;
}

export type FetchedImage = FetchedManifest<ImageManifest>;
