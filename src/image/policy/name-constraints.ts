import { contentOf, derTags, readDer, readOnlyDer } from './der.ts';
import type { DerElement } from './der.ts';

/** Names that the certificates below an authority may have; RFC 5280, 4.2.1.10. Each is a GeneralName. */
export interface NameConstraints {
  readonly permitted: readonly DerElement[];
  readonly excluded: readonly DerElement[];
}

/** Tags of GeneralName: kinds of names that can be compared here. */
export const nameTags = { email: 0x81, dns: 0x82, uri: 0x86, ip: 0x87 } as const;
const comparable: readonly number[] = Object.values(nameTags);
const permittedTag = 0xa0;
const excludedTag = 0xa1;

/** Throws for names of another kind, as what is not compared could be excluded. */
export function readNameConstraints(value: Buffer): NameConstraints {
  const parts = readDer(readOnlyDer(value, derTags.sequence));
  const order = parts.map(({ tag }) => tag).join();
  if (![`${permittedTag}`, `${excludedTag}`, `${permittedTag},${excludedTag}`].includes(order))
    throw new Error('name constraints are neither permitted nor excluded names');
  const [permitted, excluded] = [permittedTag, excludedTag].map((tag) =>
    parts.filter((part) => part.tag === tag).flatMap(({ content }) => readDer(content).map(readBase)),
  );
  return { permitted: permitted ?? [], excluded: excluded ?? [] };
}

/** GeneralSubtree: RFC 5280 allows no minimum and maximum. */
function readBase(subtree: DerElement): DerElement {
  const [base, ...others] = readDer(contentOf(subtree, derTags.sequence));
  if (base === undefined || others.length > 0) throw new Error('a name constraint is not one name');
  if (!comparable.includes(base.tag)) throw new Error(`name constraints of kind ${base.tag & 0x1f} are not supported`);
  if (base.tag === nameTags.ip && base.content.length !== 8 && base.content.length !== 32)
    throw new Error('a name constraint is no range of addresses');
  return base;
}

/** Undefined when the constraints allow all these names: none is excluded, and of each kind that is permitted at all one is. */
export function constraintProblem(names: readonly DerElement[], constraints: NameConstraints): string | undefined {
  for (const name of names) {
    const [permitted, excluded] = [constraints.permitted, constraints.excluded].map((bases) =>
      bases.filter(({ tag }) => tag === name.tag),
    );
    if (excluded?.some((base) => covers(base, name, 'excluded')) === true) return `excludes the name ${show(name)}`;
    if (permitted === undefined || permitted.length === 0) continue;
    if (!permitted.some((base) => covers(base, name, 'permitted'))) return `does not permit the name ${show(name)}`;
  }
  return undefined;
}

type Purpose = 'permitted' | 'excluded';

/** What cannot be compared is not permitted, and excluded. */
function covers(base: DerElement, name: DerElement, purpose: Purpose): boolean {
  if (base.tag === nameTags.ip) return coversAddress(base.content, name.content, purpose);
  const constraint = base.content.toString('latin1');
  if (constraint === '') return true;
  if (base.tag === nameTags.email && constraint.includes('@')) return isSameMailbox(constraint, name, purpose);
  const host = hostOf(name);
  return host === undefined ? purpose === 'excluded' : coversHost(constraint, host, purpose);
}

function coversAddress(range: Buffer, address: Buffer, purpose: Purpose): boolean {
  if (address.length !== 4 && address.length !== 16) return purpose === 'excluded';
  if (range.length !== address.length * 2) return false;
  return address.every((byte, at) => {
    const mask = range[address.length + at] ?? 0;
    return (byte & mask) === ((range[at] ?? 0) & mask);
  });
}

function isSameMailbox(constraint: string, name: DerElement, purpose: Purpose): boolean {
  const text = name.content.toString('latin1');
  const host = hostOf(name);
  if (host === undefined) return purpose === 'excluded';
  const at = constraint.lastIndexOf('@');
  const isSameHost = constraint.slice(at + 1).toLowerCase() === host;
  return isSameHost && constraint.slice(0, at) === text.slice(0, text.lastIndexOf('@'));
}

/** In lower case. Undefined for what is no name of a host. */
function hostOf({ tag, content }: DerElement): string | undefined {
  const text = content.toString('latin1');
  let host: string | undefined;
  if (tag === nameTags.dns) host = text;
  else if (tag === nameTags.email) host = /^.+@([^@]+)$/.exec(text)?.[1];
  else host = URL.canParse(text) ? new URL(text).hostname : undefined;
  return host !== undefined && isHostName(host) ? host.toLowerCase() : undefined;
}

/** Labels of letters, digits, `-` and `_`, the first one maybe `*`. An address (its last label is a number) is no name. */
function isHostName(host: string): boolean {
  return host.length <= 253 && /^(?:\*\.)?(?:[\w-]+\.)*[\w-]*[a-z_-][\w-]*$/i.test(host);
}

/**
 * `example.com` covers itself and all below it, `.example.com` only what is below. A wildcard of the name stands for any
 * label when it is excluded, and for none that is permitted by itself.
 */
function coversHost(constraint: string, host: string, purpose: Purpose): boolean {
  const onlyBelow = constraint.startsWith('.');
  const wanted = constraint
    .slice(onlyBelow ? 1 : 0)
    .toLowerCase()
    .split('.')
    .reverse();
  const labels = host.split('.').reverse();
  if (labels.length < wanted.length + (onlyBelow ? 1 : 0)) return false;
  return wanted.every((label, at) => label === labels[at] || (purpose === 'excluded' && labels[at] === '*'));
}

/** Names come from the signer: one bounded line. */
function show({ tag, content }: DerElement): string {
  const text = tag === nameTags.ip ? content.toString('hex') : content.toString('latin1');
  return JSON.stringify(text.slice(0, 200));
}
