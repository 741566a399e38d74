import type { CommandContext } from './command.ts';
import { registriesFlags } from './registries-flags.ts';

/** Warns of what is wrong in the files that the daemon shares with podman and skopeo; it is never an error here. */
export async function warnAboutContainerFiles({ loaded, globals, host, log }: CommandContext): Promise<void> {
  const { crio, image } = loaded.config;
  // Loaded here: few commands need them.
  const [{ fileProblems }, { storeProblems }] = await Promise.all([
    import('../image/file-problems.ts'),
    import('../storage/store-problems.ts'),
  ]);
  for (const line of storeProblems(crio.storageDriver, crio.storageOption)) log.warn(`${willNotStart}${line}`);
  const registries = registriesFlags(globals);
  const { fatal, others } = await fileProblems({ image, registries, env: host.env });
  for (const line of fatal) log.warn(`${willNotStart}${line}`);
  for (const line of others) log.warn(line);
}

const willNotStart = 'the daemon will not start: ';
