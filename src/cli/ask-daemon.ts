import { wrap } from '../base/errors.ts';
import { stringFlag } from '../config/flags.ts';
import type { CommandContext } from './command.ts';

export interface DaemonRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface DaemonAnswer {
  readonly status: number;
  readonly body: AsyncIterable<string>;
}

/** The socket of the flag `--socket`, else that of the configuration. */
export function daemonSocket({ flags, loaded }: CommandContext): string {
  const given = stringFlag(flags, 'socket') ?? '';
  return given === '' ? loaded.config.api.listen : given;
}

/** One request to the daemon's HTTP API; `../status-api/` is the other end. Throws when nobody answers. */
export async function askDaemon(socketPath: string, request: DaemonRequest): Promise<DaemonAnswer> {
  // Loaded here: it takes 20 ms, which no other command needs.
  const http = await import('node:http');
  return new Promise((resolve, reject) => {
    const { method, path } = request;
    const headers = { host: 'crio', ...request.headers };
    const call = http.request({ socketPath, path, method, headers, agent: false }, (response) => {
      response.setEncoding('utf8');
      resolve({ status: response.statusCode ?? 0, body: response });
    });
    call.on('error', (error) => reject(wrap(`connect to the daemon on "${socketPath}"`, error)));
    call.end();
  });
}
