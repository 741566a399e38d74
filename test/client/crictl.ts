import { spawn, type ChildProcess } from 'node:child_process';
import { text } from 'node:stream/consumers';

export interface Crictl {
  start(...args: readonly string[]): ChildProcess;
  /** `[exit code, standard output, standard error]` */
  run(input: string, ...args: readonly string[]): Promise<[number | null, string, string]>;
}

/** The real crictl, without a configuration file. */
export function crictlFor(file: string, socket: () => string): Crictl {
  const start = (...args: readonly string[]): ChildProcess => {
    const endpoint = `unix://${socket()}`;
    return spawn(file, ['-r', endpoint, '-i', endpoint, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  };
  return {
    start,
    async run(input, ...args) {
      const child = start(...args);
      const code = new Promise<number | null>((resolve) => child.once('exit', resolve));
      child.stdin?.end(input);
      const [stdout, stderr] = await Promise.all(
        [child.stdout, child.stderr].map(async (out) => (out ? text(out) : '')),
      );
      // crictl says that it has no configuration file.
      return [await code, stdout ?? '', (stderr ?? '').replaceAll(/^time=.*level=warning.*\n/gm, '')];
    },
  };
}
