import { formatReference, repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';

/**
 * Scopes from the image itself to the transport's default, as containers-policy.json(5) orders them. A wildcard is for
 * hosts, whatever their port, and has none itself.
 */
export function policyScopes(reference: Reference): readonly string[] {
  const scopes = [formatReference(reference)];
  let name = repositoryOf(reference);
  for (;;) {
    scopes.push(name);
    const slash = name.lastIndexOf('/');
    if (slash < 0) break;
    name = name.slice(0, slash);
  }
  name = name.replace(/:.*$/, '');
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.')) {
    name = name.slice(dot + 1);
    if (name === '') break;
    scopes.push(`*.${name}`);
  }
  return [...scopes, ''];
}
