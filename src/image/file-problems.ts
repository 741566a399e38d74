import { messageOf } from '../base/errors.ts';
import { authFileProblems } from './auth/auth-file-problems.ts';
import type { ConfiguredAuthFiles } from './auth/auth-file-problems.ts';
import { policyProblems } from './policy/policy-problems.ts';
import { systemPolicyPaths } from './policy/policy-file.ts';
import type { PolicyPaths } from './policy/policy-file.ts';
import { loadRegistriesConf, registriesPaths } from './registries-file.ts';
import type { RegistriesPaths } from './registries-file.ts';

export interface FileProblems {
  /** The daemon does not start with them. */
  readonly fatal: readonly string[];
  readonly others: readonly string[];
}

/** What is wrong in registries.conf, its drop-ins, the signature policies and the auth files: one line each, with file and key. */
export async function fileProblems(options: {
  readonly image: PolicyPaths & ConfiguredAuthFiles;
  /** Values of the flags `--registries-conf` and `--registries-conf-dir`. */
  readonly registries: { readonly file?: string; readonly dropInDir?: string };
  readonly env: Readonly<Record<string, string | undefined>>;
}): Promise<FileProblems> {
  const { image, registries, env } = options;
  const [inRegistries, inPolicies, inAuthFiles] = await Promise.all([
    registriesProblems(registriesPaths(env, registries)),
    policyProblems(image, systemPolicyPaths(env)),
    authFileProblems(image),
  ]);
  return { fatal: inRegistries.fatal, others: [...inRegistries.others, ...inPolicies, ...inAuthFiles] };
}

async function registriesProblems(paths: RegistriesPaths): Promise<FileProblems> {
  try {
    return { fatal: [], others: (await loadRegistriesConf(paths)).warnings };
  } catch (error) {
    return { fatal: [messageOf(error)], others: [] };
  }
}
