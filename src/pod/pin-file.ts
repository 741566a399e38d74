import { closeSync, openSync } from 'node:fs';
import type { NamespacePlan, UserNamespace } from './namespace-plan.ts';

export interface PinRequest {
  readonly plan: NamespacePlan;
  readonly userNamespace: UserNamespace;
  readonly sysctls: ReadonlyMap<string, string>;
  readonly hostname: string;
}

/** `wx`: nobody else's pin is ever covered. */
export function createPinFile(path: string): void {
  closeSync(openSync(path, 'wx', 0o444));
}
