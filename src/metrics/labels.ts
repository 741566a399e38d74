/** Values of labels, kept to sets of a fixed size: what a registry or a user writes must not make new series for ever. */

const kib = 1024;
const mib = 1024 * kib;
const gib = 1024 * mib;

/** Lower bounds, largest first, as CRI-O's labels name them. */
const sizes: readonly (readonly [bytes: number, text: string])[] = [
  [10 * gib, '10 GiB'],
  [gib, '1 GiB'],
  ...[500, 400, 300, 200, 100, 50, 10, 1].map((count) => [count * mib, `${count} MiB`] as const),
  [kib, '1 KiB'],
];

/** The label `size` of a layer: `>10 MiB`. */
export function sizeLabel(bytes: number): string {
  const found = sizes.find(([bound]) => bytes > bound);
  return `>${found?.[1] ?? '0 B'}`;
}

/** Codes of the registry protocol (distribution spec, docker/distribution), and what may happen on the way. */
const failures = new Set([
  'BLOB_UNKNOWN',
  'BLOB_UPLOAD_INVALID',
  'BLOB_UPLOAD_UNKNOWN',
  'CONNECTION_REFUSED',
  'CONNECTION_TIMEOUT',
  'DENIED',
  'DIGEST_INVALID',
  'MANIFEST_BLOB_UNKNOWN',
  'MANIFEST_INVALID',
  'MANIFEST_UNKNOWN',
  'MANIFEST_UNVERIFIED',
  'NAME_INVALID',
  'NAME_UNKNOWN',
  'NOT_FOUND',
  'SIZE_INVALID',
  'TAG_INVALID',
  'TOOMANYREQUESTS',
  'UNAUTHORIZED',
  'UNAVAILABLE',
  'UNSUPPORTED',
]);

/** The label `error` of a pull that failed. */
export function failureLabelOf(code: string): string {
  return failures.has(code) ? code : 'UNKNOWN';
}

/** Of the blobs of images, and of the empty configuration of an artifact. */
const mediaTypes: readonly RegExp[] = [
  /^application\/vnd\.oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+gzip|\+zstd)?(?:\+encrypted)?$/,
  /^application\/vnd\.docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.gzip|\.zstd)?$/,
  /^application\/vnd\.(?:oci\.image\.config|oci\.empty|docker\.container\.image)\.v1\+json$/,
];

/** The label `mediatype`: the known ones as they are, all others as one. */
export function mediaTypeLabel(mediaType: string): string {
  return mediaTypes.some((known) => known.test(mediaType)) ? mediaType : 'other';
}

/** Decides which label values may have a series: the newest `limit`. The oldest is given to `forget`. */
export class RecentValues {
  readonly #limit: number;
  readonly #forget: (value: string) => void;
  readonly #values = new Set<string>();

  constructor(limit: number, forget: (value: string) => void) {
    this.#limit = limit;
    this.#forget = forget;
  }

  use(value: string): string {
    this.#values.delete(value);
    this.#values.add(value);
    const [oldest] = this.#values;
    if (this.#values.size > this.#limit && oldest !== undefined) {
      this.#values.delete(oldest);
      this.#forget(oldest);
    }
    return value;
  }

  delete(value: string): void {
    if (this.#values.delete(value)) this.#forget(value);
  }
}
