import { env, kill, pid } from 'node:process';

/**
 * Where crash tests end the daemon: `CRIO_CRASH_AT` names a stage of a call or a step of the storage, `NAME` or `NAME#N` for
 * the Nth time. Undefined without it, as always outside of tests.
 */
export function failpoint(): ((name: string) => void) | undefined {
  const [, wanted, count] = /^([^#]+)(?:#(\d+))?$/.exec(env['CRIO_CRASH_AT'] ?? '') ?? [];
  if (wanted === undefined) return undefined;
  let left = Number(count ?? 1);
  return (name) => {
    if (name !== wanted) return;
    left -= 1;
    if (left === 0) kill(pid, 'SIGKILL');
  };
}
