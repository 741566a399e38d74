import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, messageOf, wrap } from '../../base/errors.ts';
import { findPolicy, loadPolicy, policyFiles } from './policy-file.ts';
import type { PolicyPaths } from './policy-file.ts';

/**
 * Why pulls will fail; never throws: one line for each policy, the node's and those of namespaces, that cannot be used. The system's
 * may be absent.
 */
export async function policyProblems(image: PolicyPaths, system: readonly string[]): Promise<readonly string[]> {
  const problems: string[] = [];
  const ofNamespaces = await namespacePolicies(image.signaturePolicyDir).catch((error: unknown) => {
    problems.push(messageOf(wrap(`read folder of signature policies "${image.signaturePolicyDir}"`, error)));
    return [];
  });
  const read = image.signaturePolicy === '' ? findPolicy : loadPolicy;
  for (const files of [policyFiles(image, '', system), ...ofNamespaces]) {
    try {
      await read(files);
    } catch (error) {
      problems.push(`no image can be pulled with this signature policy: ${messageOf(error)}`);
    }
  }
  return problems;
}

async function namespacePolicies(dir: string): Promise<readonly (readonly string[])[]> {
  if (dir === '') return [];
  try {
    const names = await readdir(dir);
    return names
      .filter((name) => name.endsWith('.json'))
      .toSorted()
      .map((name) => [join(dir, name)]);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}
