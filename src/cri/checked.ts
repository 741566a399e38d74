import { CrioError } from '../base/errors.ts';

/** The sub-message, or the error text that CRI-O gives for a missing one. */
export function required<T>(value: T | undefined, message: string): T {
  if (value === undefined) throw new CrioError('invalid', message);
  return value;
}

/** A 64-bit integer of the protocol as an exact JavaScript number. */
export function exactNumber(value: bigint, field: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new CrioError('invalid', `${field}: ${value} is out of range`);
  return number;
}

/** An enum value of the protocol; an unknown number is an error that names the field. */
export function knownValue<Value extends number>(value: number, known: readonly Value[], field: string): Value {
  const found = known.find((candidate) => candidate === value);
  if (found === undefined) throw new CrioError('invalid', `${field}: unknown value ${value}`);
  return found;
}

/** A map of the protocol. Keys such as `__proto__` are ordinary keys there, so it never becomes an object. */
export function toMap(object: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  return new Map(Object.entries(object));
}

/** The other way round, for answers; the object has no prototype. */
export function fromMap(map: ReadonlyMap<string, string>): Record<string, string> {
  const object: Record<string, string> = Object.create(null);
  for (const [key, value] of map) object[key] = value;
  return object;
}
