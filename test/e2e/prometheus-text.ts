/** A strict reader of Prometheus's text format 0.0.4: whatever a server of Prometheus could stumble over is an error. */

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

const types = ['counter', 'gauge', 'histogram', 'summary', 'untyped'];

export function parsePrometheus(text: string): ReadonlyMap<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the text does not end with a line feed');
  const families = new Map<string, { type: string; help: string; samples: Sample[] }>();
  const seen = new Set<string>();
  let current = '';
  for (const line of text.slice(0, -1).split('\n')) {
    const [, kind, name = '', rest = ''] = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$/.exec(line) ?? [];
    if (kind === 'HELP') {
      if (families.has(name)) throw new Error(`a second family "${name}"`);
      families.set(name, { type: '', help: rest, samples: [] });
      current = name;
      continue;
    }
    const family = families.get(current);
    if (family === undefined) throw new Error(`a line before the first family: ${line}`);
    if (kind === 'TYPE') {
      if (name !== current || family.type !== '' || !types.includes(rest)) throw new Error(`wrong type line: ${line}`);
      family.type = rest;
      continue;
    }
    const sample = parseSample(line);
    if (!belongs(sample, current, family.type))
      throw new Error(`not a sample of the ${family.type} "${current}": ${line}`);
    const key = [
      sample.name,
      ...Object.entries(sample.labels)
        .map((label) => JSON.stringify(label))
        .toSorted(),
    ].join();
    if (seen.has(key)) throw new Error(`a second sample of the same series: ${line}`);
    seen.add(key);
    family.samples.push(sample);
  }
  for (const [name, family] of families) checkFamily(name, family);
  return families;
}

function parseSample(line: string): Sample {
  const match = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
  if (match === null) throw new Error(`no sample: ${line}`);
  const [, name = '', labelText = '', number = ''] = match;
  return { name, labels: parseLabels(labelText, line), value: parseNumber(number, line) };
}

function parseLabels(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {};
  const pattern = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)/y;
  while (pattern.lastIndex < text.length) {
    const [, name = '', value = ''] = pattern.exec(text) ?? [];
    if (name === '' || name in labels) throw new Error(`wrong labels: ${line}`);
    labels[name] = value.replaceAll(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped));
  }
  return labels;
}

function parseNumber(text: string, line: string): number {
  if (text === '+Inf') return Infinity;
  if (text === '-Inf') return -Infinity;
  if (text === 'NaN') return NaN;
  if (!/^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(text)) throw new Error(`wrong number: ${line}`);
  return Number(text);
}

function belongs({ name, labels }: Sample, family: string, type: string): boolean {
  if (type === 'histogram') {
    return name === `${family}_bucket` ? 'le' in labels : name === `${family}_sum` || name === `${family}_count`;
  }
  if (type === 'summary' && name !== family) return name === `${family}_sum` || name === `${family}_count`;
  return name === family && (type !== 'summary' || 'quantile' in labels);
}

function checkFamily(name: string, { type, samples }: Family): void {
  if (type === '' || samples.length === 0) throw new Error(`family "${name}" has no type or no samples`);
  if (type === 'counter' && samples.some(({ value }) => !(value >= 0)))
    throw new Error(`counter "${name}" is negative`);
  if (type !== 'histogram') return;
  const buckets = samples.filter((sample) => sample.name === `${name}_bucket`);
  const count = samples.find((sample) => sample.name === `${name}_count`)?.value;
  if (buckets.at(-1)?.labels['le'] !== '+Inf' || buckets.at(-1)?.value !== count)
    throw new Error(`histogram "${name}" does not end with +Inf and its count`);
  for (const [position, { value }] of buckets.entries())
    if (value < (buckets[position - 1]?.value ?? 0)) throw new Error(`histogram "${name}" is not cumulative`);
}
