/** Sets one variable: a later value takes the earlier one's place, so every name stands in the list once. */
export function setVariable(env: string[], name: string, value: string): void {
  const entry = `${name}=${value}`;
  const at = env.findIndex((other) => nameOf(other) === name);
  if (at === -1) env.push(entry);
  else env[at] = entry;
}

export interface EnvironmentRequest {
  readonly base: readonly string[];
  readonly terminal: boolean;
  readonly systemd: boolean;
  readonly hostname: string;
  /** `KEY=value` from the configuration */
  readonly defaults: readonly string[];
  readonly request: readonly { readonly key: string; readonly value: string }[];
  /** `KEY=value` from the image; never replaces one of the request */
  readonly image: readonly string[];
  readonly extra: readonly string[];
}

/** The environment of a container's first process, `KEY=value` in CRI-O's order. */
export function mergeEnvironment(input: EnvironmentRequest): string[] {
  const env = [...input.base];
  if (input.terminal) setVariable(env, 'TERM', 'xterm');
  if (input.systemd) setVariable(env, 'container', 'crio');
  if (input.hostname !== '') setVariable(env, 'HOSTNAME', input.hostname);
  setEntries(env, input.defaults);
  const named = input.request.filter(({ key }) => key !== '');
  for (const { key, value } of named) setVariable(env, key, value);
  const requested = new Set(named.map(({ key }) => key));
  setEntries(
    env,
    input.image.filter((entry) => !requested.has(nameOf(entry))),
  );
  setEntries(env, input.extra);
  return env;
}

/** Value of a variable, undefined when it is not set. */
export function variable(env: readonly string[], name: string): string | undefined {
  const entry = env.find((other) => nameOf(other) === name);
  return entry?.slice(name.length + 1);
}

/** Entries without `=` or without a name mean nothing to execve's users and are left out. */
function setEntries(env: string[], entries: readonly string[]): void {
  for (const entry of entries) {
    const name = nameOf(entry);
    if (name !== '' && name.length < entry.length) setVariable(env, name, entry.slice(name.length + 1));
  }
}

function nameOf(entry: string): string {
  const at = entry.indexOf('=');
  return at === -1 ? entry : entry.slice(0, at);
}
