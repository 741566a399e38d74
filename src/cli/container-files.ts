import type { CommandContext } from './command.ts';
import { registriesFlags } from './registries-flags.ts';

/** Warns of what is wrong in the files that the daemon shares with podman and skopeo; it is never an error here. */
export async function warnAboutContainerFiles({ loaded, globals, host, log }: CommandContext): Promise<void> {
  // Loaded here: few commands need it.
  const { fileProblems } = await import('../image/file-problems.ts');
  const registries = registriesFlags(globals);
  for (const line of await fileProblems({ image: loaded.config.image, registries, env: host.env })) log.warn(line);
}
