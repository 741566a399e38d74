import { CrioError } from '../../base/errors.ts';

/**
 * The argument list: the request's command replaces the image's entrypoint and drops its command; the request's
 * arguments replace the image's command. Throws `no command specified` (CRI-O's text).
 */
export function chooseArguments(options: {
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly image: { readonly entrypoint: readonly string[]; readonly cmd: readonly string[] };
}): string[] {
  const { command, args, image } = options;
  const first = command.length > 0 ? command : image.entrypoint;
  const rest = args.length > 0 || command.length > 0 ? args : image.cmd;
  const all = [...first, ...rest];
  if (all.length === 0) throw new CrioError('invalid', 'no command specified');
  return all;
}

/** True when the program is an init that expects a systemd-like world (cri-behaviour "systemd mode"). */
export function isSystemd(args: readonly string[]): boolean {
  const program = args[0] ?? '';
  return program.includes('/sbin/init') || program.slice(program.lastIndexOf('/') + 1) === 'systemd';
}

/** Working directory of the request, else of the image, else `/`; always absolute. */
export function chooseWorkingDirectory(request: string, image: string): string {
  const chosen = request !== '' ? request : image;
  return chosen.startsWith('/') ? chosen : `/${chosen}`;
}
