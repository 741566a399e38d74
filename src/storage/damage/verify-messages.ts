import type { LayerFault } from './verify-layer.ts';

/** What the worker answers for each layer that it was told to verify. */
export type VerifyReply =
  | { readonly type: 'done'; readonly fault: LayerFault | undefined }
  | { readonly type: 'failed'; readonly message: string };
