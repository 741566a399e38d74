/** True when every pair of the selector is in the labels, exactly. */
export function matchesLabels(
  labels: ReadonlyMap<string, string>,
  selector: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(selector).every(([key, value]) => labels.get(key) === value);
}
