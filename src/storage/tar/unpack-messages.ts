import type { ErrorKind } from '../../base/errors.ts';
import type { UnpackedContent } from '../staged-layer.ts';
import type { WhiteoutForm } from './place-entry.ts';

/** What the main thread sends to an unpack worker. */
export type UnpackRequest =
  | {
      readonly type: 'start';
      readonly job: number;
      readonly diffFolder: string;
      readonly tarSplit: string;
      readonly whiteouts: WhiteoutForm;
    }
  | { readonly type: 'chunk'; readonly job: number; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly type: 'end'; readonly job: number }
  | { readonly type: 'abort'; readonly job: number };

/** What it answers. After `done` or `failed` the job holds no file any more. */
export type UnpackReply =
  /** The chunk with its memory, which is the sender's again. */
  | { readonly type: 'taken'; readonly job: number; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly type: 'warning'; readonly job: number; readonly message: string }
  | { readonly type: 'done'; readonly job: number; readonly content: UnpackedContent }
  | { readonly type: 'failed'; readonly job: number; readonly message: string; readonly kind: ErrorKind };
