import { CrioError } from '../base/errors.ts';
import type { SecurityProfile } from '../pod/config.ts';

export interface ApparmorRequest {
  readonly profile: SecurityProfile | undefined;
  /** The older form: `runtime/default`, `unconfined`, `localhost/<name>`, `` */
  readonly deprecated: string;
  readonly privileged: boolean;
  /** HostFacts.apparmor */
  readonly isEnabled: boolean;
  /** `apparmor_profile`: a name, `unconfined`, or `` for CRI-O's own */
  readonly defaultProfile: string;
}

/** Name of the profile for a container; undefined for none. The error text is CRI-O's. */
export function chooseApparmor(request: ApparmorRequest): string | undefined {
  if (request.privileged || !request.isEnabled) return undefined;
  const wanted = request.profile ?? parseDeprecated(request.deprecated);
  if (wanted === undefined || wanted.type === 'runtime-default') return defaultName(request.defaultProfile);
  if (wanted.type === 'unconfined') return undefined;
  const name = wanted.localhostRef.replace(/^localhost\//, '');
  if (name === '') throw new CrioError('invalid', 'empty localhost AppArmor profile is forbidden');
  return name;
}

function defaultName(configured: string): string | undefined {
  if (configured === 'unconfined') return undefined;
  return configured === '' ? 'crio-default' : configured;
}

function parseDeprecated(text: string): SecurityProfile | undefined {
  if (text === '') return undefined;
  if (text === 'runtime/default') return { type: 'runtime-default', localhostRef: '' };
  if (text === 'unconfined') return { type: 'unconfined', localhostRef: '' };
  return { type: 'localhost', localhostRef: text };
}
