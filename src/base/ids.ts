import { randomBytes } from 'node:crypto';

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]?: Name };

export type PodId = Branded<'PodId'>;
export type ContainerId = Branded<'ContainerId'>;
export type ImageId = Branded<'ImageId'>;
export type LayerId = Branded<'LayerId'>;
/** `sha256:<64 hex>` */
export type Digest = Branded<'Digest'>;

/** 64 lower-case hex digits from 32 random bytes; drawn again when the first 12 are all decimal digits. */
export function newId(): string {
  for (;;) {
    const id = randomBytes(32).toString('hex');
    if (!/^\d{12}/.test(id)) return id;
  }
}

export function isId(text: string): boolean {
  return /^[a-f0-9]{64}$/.test(text);
}
