import { open } from 'node:fs/promises';
import { CrioError, hasCode, wrap } from '../base/errors.ts';
import type { SecurityProfile } from '../pod/config.ts';
import type { SeccompChoice } from '../runtime/spec/input.ts';
import { parseSeccompProfile } from '../runtime/spec/parse-seccomp.ts';
import { defaultProfile } from '../runtime/spec/seccomp-default.ts';
import type { SeccompProfile } from '../runtime/spec/seccomp-profile.ts';

/** Profiles are written by hand; the largest known ones have some ten kilobytes. */
const maxProfileBytes = 4 * 1024 * 1024;

export interface SeccompRequest {
  /** Of the request; undefined when it has none. */
  readonly profile: SecurityProfile | undefined;
  readonly privileged: boolean;
  /** True for infra containers: without a privileged profile they keep the built-in one. */
  readonly isInfra: boolean;
  /** What the kernel can do: HostFacts.seccomp */
  readonly isEnabled: boolean;
  /** `seccomp_profile` of the handler, else the global one; `` for the built-in. */
  readonly runtimeDefaultPath: string;
  /** `privileged_seccomp_profile`; `` for none */
  readonly privilegedPath: string;
  /** The profile that an annotation names; asked where there would be none. */
  readonly fromArtifact?: () => Promise<SeccompProfile | undefined>;
}

/** Which profile a container gets, read anew from its file each time. Throws CrioError `invalid`. */
export async function chooseSeccomp(request: SeccompRequest): Promise<SeccompChoice> {
  if (request.privileged) return privilegedChoice(request);
  const type = request.profile?.type;
  if (type === undefined || type === 'unconfined') {
    const profile = request.isEnabled ? await request.fromArtifact?.() : undefined;
    return { profile, path: profile === undefined && type === 'unconfined' ? 'Unconfined' : '' };
  }
  if (type === 'localhost') return localChoice(request);
  if (!request.isEnabled) return { profile: undefined, path: '' };
  return { profile: await runtimeDefault(request.runtimeDefaultPath), path: 'RuntimeDefault' };
}

async function privilegedChoice({ privilegedPath, isInfra, isEnabled }: SeccompRequest): Promise<SeccompChoice> {
  if (privilegedPath !== '' && isEnabled) return { profile: await readProfile(privilegedPath), path: privilegedPath };
  return { profile: isInfra && isEnabled ? defaultProfile : undefined, path: 'Unconfined' };
}

async function localChoice({ profile, isEnabled }: SeccompRequest): Promise<SeccompChoice> {
  if (!isEnabled) throw new CrioError('invalid', 'seccomp is not enabled, cannot run with custom profile');
  const path = profile?.localhostRef ?? '';
  try {
    return { profile: await readProfile(path), path };
  } catch (error) {
    throw wrap(`unable to load local profile "${path}"`, error, 'invalid');
  }
}

/** A configured file that is gone means the built-in profile, as in CRI-O. */
async function runtimeDefault(path: string): Promise<SeccompProfile> {
  if (path === '') return defaultProfile;
  try {
    return await readProfile(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return defaultProfile;
    throw wrap(`load seccomp profile "${path}"`, error, 'invalid');
  }
}

async function readProfile(path: string): Promise<SeccompProfile> {
  await using file = await open(path);
  const { size } = await file.stat();
  if (size > maxProfileBytes) throw new CrioError('invalid', `larger than ${maxProfileBytes} bytes`);
  return parseSeccompProfile(await file.readFile('utf8'));
}
