/** Resolves with the name of the first SIGTERM or SIGINT. SIGPIPE is ignored from now on. */
export function waitForStopSignal(): Promise<NodeJS.Signals> {
  process.on('SIGPIPE', () => undefined);
  return new Promise((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, resolve);
  });
}
