/**
 * What prom-client prints, as Go's client prints it: families without a sample are left out, and bounds of buckets are
 * written as Go writes numbers, since they are label values that existing rules and dashboards compare. Sorted by name.
 */
export function asGoPrints(text: string): string {
  return text
    .split('\n\n')
    .map((family) => family.trim())
    .filter((family) => family.split('\n').some((line) => line !== '' && !line.startsWith('#')))
    .toSorted()
    .map((family) => `${family.replaceAll(/\ble="(\d+)"/g, (_, bound: string) => `le="${goNumber(Number(bound))}"`)}\n`)
    .join('');
}

/** strconv.FormatFloat(value, 'g', -1, 64): `100000`, but `1e+06` and `1.5e-05`. */
export function goNumber(value: number): string {
  const [mantissa = '', exponent = ''] = value.toExponential().split('e');
  const power = Number(exponent);
  if (power >= -4 && power < 6) return String(value);
  return `${mantissa}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
}
