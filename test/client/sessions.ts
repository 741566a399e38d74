import type { CriClient } from './client.ts';

export const success = '{"status":"Success"}';

export interface SessionOptions {
  readonly stdin?: boolean;
  readonly tty?: boolean;
  readonly stderr?: boolean;
}

/** The URL of an exec session; its error output apart unless it has a terminal. */
export async function execUrl(
  client: CriClient,
  containerId: string,
  cmd: readonly string[],
  { stdin = false, tty = false, stderr = !tty }: SessionOptions = {},
): Promise<string> {
  return (await client.runtime.exec({ containerId, cmd: [...cmd], stdin, stdout: true, stderr, tty })).url;
}

export async function attachUrl(client: CriClient, containerId: string, tty = false): Promise<string> {
  return (await client.runtime.attach({ containerId, stdin: true, stdout: true, stderr: !tty, tty })).url;
}

export async function forwardUrl(
  client: CriClient,
  podSandboxId: string,
  port: readonly number[] = [],
): Promise<string> {
  return (await client.runtime.portForward({ podSandboxId, port: [...port] })).url;
}

export function exitText(code: number): string {
  return `command terminated with non-zero exit code: exit status ${code}`;
}

/** What version 4 of the protocol says of a command that ended with this code; not 0. */
export function exitStatus(code: number): string {
  const details = { causes: [{ reason: 'ExitCode', message: String(code) }] };
  return JSON.stringify({ status: 'Failure', message: exitText(code), reason: 'NonZeroExitCode', details });
}
