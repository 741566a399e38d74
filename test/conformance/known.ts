interface KnownSpec {
  /** Substring of the spec's full name. */
  readonly spec: string;
  /** Only with this handler; default: any. */
  readonly handler?: string;
  readonly reason: string;
}

/** Specs that do not pass yet or cannot here; docs/conformance.md lists the same with more words. */
const known: readonly KnownSpec[] = [];

export function knownReason(handler: string, name: string): string | undefined {
  return known.find((item) => name.includes(item.spec) && (item.handler ?? handler) === handler)?.reason;
}
