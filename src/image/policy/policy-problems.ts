import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, messageOf, wrap } from '../../base/errors.ts';
import { findPolicy, loadPolicy } from './policy-file.ts';
import type { PolicyPaths } from './policy-file.ts';

/**
 * Why pulls will fail; never throws: one line for each policy, the node's and those of namespaces, that cannot be used or is
 * not there.
 */
export async function policyProblems(image: PolicyPaths, system: readonly string[]): Promise<readonly string[]> {
  const problems: string[] = [];
  const ofNamespaces = await namespacePolicies(image.signaturePolicyDir).catch((error: unknown) => {
    problems.push(messageOf(wrap(`read folder of signature policies "${image.signaturePolicyDir}"`, error)));
    return [];
  });
  const reads = [() => loadPolicy(image, '', system), ...ofNamespaces.map((file) => () => findPolicy([file]))];
  for (const read of reads) {
    try {
      await read();
    } catch (error) {
      problems.push(`no image can be pulled with this signature policy: ${messageOf(error)}`);
    }
  }
  return problems;
}

async function namespacePolicies(dir: string): Promise<readonly string[]> {
  if (dir === '') return [];
  try {
    const names = await readdir(dir);
    return names
      .filter((name) => name.endsWith('.json'))
      .toSorted()
      .map((name) => join(dir, name));
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}
