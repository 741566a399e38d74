import { isIP } from 'node:net';
import { CrioError } from '../../base/errors.ts';
import { contentOf, derTags, readDer, readOnlyDer } from './der.ts';
import type { DerElement } from './der.ts';

/** Names that the certificates below an authority may have; RFC 5280, 4.2.1.10. Each is a GeneralName. */
export interface NameConstraints {
  readonly permitted: readonly DerElement[];
  readonly excluded: readonly DerElement[];
  /** Number of a kind of names (RFC 5280, GeneralName) that the extension has, too, and that cannot be compared here. */
  readonly unsupportedKind: number | undefined;
}

/** Tags of GeneralName: kinds of names that can be compared here. */
export const nameTags = { email: 0x81, dns: 0x82, uri: 0x86, ip: 0x87 } as const;
const comparable: readonly number[] = Object.values(nameTags);
const permittedTag = 0xa0;
const excludedTag = 0xa1;
/** A mailbox has 64 octets before its `@`, a host 253 behind it; RFC 5321, 4.5.3.1. */
const maxBaseLength = 320;

/** Comparisons of a name and a constraint that are left: both come from the signer, and each may come with each. */
export interface ComparisonBudget {
  left: number;
}

/** As many as Go's crypto/x509 makes. */
export function createComparisonBudget(): ComparisonBudget {
  return { left: 250_000 };
}

/** Throws for what is malformed. */
export function readNameConstraints(value: Buffer): NameConstraints {
  const parts = readDer(readOnlyDer(value, derTags.sequence));
  const order = parts.map(({ tag }) => tag).join();
  if (![`${permittedTag}`, `${excludedTag}`, `${permittedTag},${excludedTag}`].includes(order))
    throw new Error('name constraints are neither permitted nor excluded names');
  const [permitted = [], excluded = []] = [permittedTag, excludedTag].map((tag) =>
    parts.filter((part) => part.tag === tag).flatMap(({ content }) => readDer(content).map(readBase)),
  );
  const isComparable = ({ tag }: DerElement) => comparable.includes(tag);
  const other = permitted.find((base) => !isComparable(base)) ?? excluded.find((base) => !isComparable(base));
  return {
    permitted: permitted.filter(isComparable),
    excluded: excluded.filter(isComparable),
    unsupportedKind: other === undefined ? undefined : other.tag & 0x1f,
  };
}

/** GeneralSubtree: RFC 5280 allows no minimum and maximum. */
function readBase(subtree: DerElement): DerElement {
  const [base, ...others] = readDer(contentOf(subtree, derTags.sequence));
  if (base === undefined || others.length > 0) throw new Error('a name constraint is not one name');
  if (base.tag === nameTags.ip) checkRange(base.content);
  else if (comparable.includes(base.tag) && !isTextBase(base))
    throw new Error(`malformed name constraint ${show(base)}`);
  return base;
}

/** An address and a mask of the same length. */
function checkRange(range: Buffer): void {
  if (range.length !== 8 && range.length !== 32) throw new Error('a name constraint is no range of addresses');
  const mask = range.subarray(range.length / 2);
  const bits = Array.from(mask, (byte) => byte.toString(2).padStart(8, '0')).join('');
  if (!/^1*0*$/.test(bits)) throw new Error(`a name constraint has the mask ${mask.toString('hex')}`);
}

/** What crypto/x509 of Go takes too, except mailboxes in quotes. */
function isTextBase({ tag, content }: DerElement): boolean {
  if (content.length > maxBaseLength) return false;
  const text = content.toString('latin1');
  if (tag === nameTags.uri && isIP(text) !== 0) return false;
  if (tag !== nameTags.email || !text.includes('@')) return isHostBase(text.replace(/^\./, ''));
  const at = text.lastIndexOf('@');
  const isMailbox = /^[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*$/.test(text.slice(0, at));
  return isMailbox && at + 1 < text.length && isHostBase(text.slice(at + 1));
}

/** Any host, or labels of visible ASCII. */
function isHostBase(host: string): boolean {
  return host === '' || host.split('.').every((label) => /^[!-~]+$/.test(label));
}

/**
 * Undefined when the constraints allow all these names: none is excluded, and of each kind that is permitted at all one is.
 * Throws `resource-exhausted` when the budget does not suffice.
 */
export function constraintProblem(
  names: readonly DerElement[],
  constraints: NameConstraints,
  budget: ComparisonBudget,
): string | undefined {
  const permittedOf = Map.groupBy(constraints.permitted, ({ tag }) => tag);
  const excludedOf = Map.groupBy(constraints.excluded, ({ tag }) => tag);
  for (const element of names) {
    const permitted = permittedOf.get(element.tag) ?? [];
    const excluded = excludedOf.get(element.tag) ?? [];
    if (permitted.length + excluded.length === 0) continue;
    budget.left -= permitted.length + excluded.length;
    if (budget.left < 0)
      throw new CrioError('resource-exhausted', 'check certificate: too many name constraints for its names');
    const name = readName(element);
    if (excluded.some((base) => covers(base, name, 'excluded'))) return `excludes the name ${show(element)}`;
    if (permitted.length > 0 && !permitted.some((base) => covers(base, name, 'permitted')))
      return `does not permit the name ${show(element)}`;
  }
  return undefined;
}

/** A name that is read once for all comparisons. */
interface Name {
  readonly content: Buffer;
  /** Of a mailbox: what stands before the host. */
  readonly local: string | undefined;
  /** In lower case. Undefined for what is no name of a host. */
  readonly host: string | undefined;
}

function readName(element: DerElement): Name {
  const { tag, content } = element;
  if (tag === nameTags.ip) return { content, local: undefined, host: undefined };
  const text = content.toString('latin1');
  const local = tag === nameTags.email ? text.slice(0, text.lastIndexOf('@')) : undefined;
  return { content, local, host: hostOf(tag, text) };
}

type Purpose = 'permitted' | 'excluded';

/** What cannot be compared is not permitted, and excluded. */
function covers(base: DerElement, name: Name, purpose: Purpose): boolean {
  if (base.tag === nameTags.ip) return coversAddress(base.content, name.content, purpose);
  const constraint = base.content.toString('latin1');
  if (constraint === '' || constraint === '.') return true;
  if (name.host === undefined) return purpose === 'excluded';
  if (base.tag !== nameTags.email || !constraint.includes('@')) return coversHost(constraint, name.host, purpose);
  const at = constraint.lastIndexOf('@');
  return constraint.slice(at + 1).toLowerCase() === name.host && constraint.slice(0, at) === name.local;
}

function coversAddress(range: Buffer, address: Buffer, purpose: Purpose): boolean {
  if (address.length !== 4 && address.length !== 16) return purpose === 'excluded';
  if (range.length !== address.length * 2) return false;
  return address.every((byte, at) => {
    const mask = range[address.length + at] ?? 0;
    return (byte & mask) === ((range[at] ?? 0) & mask);
  });
}

function hostOf(tag: number, text: string): string | undefined {
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
