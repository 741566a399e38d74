import { messageOf } from '../base/errors.ts';
import { authFileProblems } from './auth/auth-file-problems.ts';
import type { ConfiguredAuthFiles } from './auth/auth-file-problems.ts';
import { policyProblems } from './policy/policy-problems.ts';
import { systemPolicyPaths } from './policy/policy-file.ts';
import type { PolicyPaths } from './policy/policy-file.ts';
import { loadRegistriesConf, registriesPaths } from './registries-file.ts';

/** What is wrong in registries.conf, its drop-ins, the signature policies and the auth files: one line each, with file and key. */
export async function fileProblems(options: {
  readonly image: PolicyPaths & ConfiguredAuthFiles;
  /** Values of the flags `--registries-conf` and `--registries-conf-dir`. */
  readonly registries: { readonly file?: string; readonly dropInDir?: string };
  readonly env: Readonly<Record<string, string | undefined>>;
}): Promise<readonly string[]> {
  const { image, registries, env } = options;
  const inRegistries = loadRegistriesConf(registriesPaths(env, registries)).then(({ warnings }) => warnings);
  const inPolicies = policyProblems(image, systemPolicyPaths(env));
  const found = await Promise.allSettled([inRegistries, inPolicies, authFileProblems(image)]);
  return found.flatMap((part) => (part.status === 'fulfilled' ? part.value : [messageOf(part.reason)]));
}
