interface Sample {
  readonly timestampNs: bigint;
  readonly usageNs: bigint;
  readonly nanoCores: bigint | undefined;
}

/** Closer samples say more about the clock than about the load: the rate before stays. */
const minIntervalNs = 100_000_000n;
const secondNs = 1_000_000_000n;

/** CPU use per second between two readings; what is known goes with its owner. */
export class CpuRates {
  readonly #samples = new WeakMap<object, Sample>();

  /** CPU nanoseconds per second since the last reading; undefined without one. */
  update(owner: object, timestampNs: bigint, usageNs: bigint): bigint | undefined {
    const last = this.#samples.get(owner);
    const elapsedNs = last === undefined ? 0n : timestampNs - last.timestampNs;
    if (last !== undefined && elapsedNs < minIntervalNs && elapsedNs >= 0n) return last.nanoCores;
    const usedNs = last === undefined ? undefined : usageNs - last.usageNs;
    const nanoCores =
      usedNs === undefined || usedNs < 0n || elapsedNs <= 0n ? undefined : (usedNs * secondNs) / elapsedNs;
    this.#samples.set(owner, { timestampNs, usageNs, nanoCores });
    return nanoCores;
  }
}
