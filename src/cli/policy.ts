import { CrioError } from '../base/errors.ts';
import { flag, stringFlag } from '../config/flags.ts';
import type { Command, CommandContext } from './command.ts';

export const policyCommand: Command = {
  name: 'policy',
  aliases: [],
  usage: 'show what the signature policy says',
  flags: [],
  subcommands: [
    {
      name: 'explain',
      aliases: [],
      usage: 'show which rule decides about an image, and why',
      arguments: 'IMAGE',
      flagsAnywhere: true,
      flags: [flag({ name: 'namespace', aliases: ['n'], usage: 'namespace of the pod that uses the image' })],
      run: explain,
    },
  ],
};

/** Reads the files as the daemon would: it may be stopped. */
async function explain({ args, flags, loaded, output }: CommandContext): Promise<number> {
  const [name = '', ...more] = args;
  if (name === '' || more.length > 0) throw new CrioError('invalid', 'expected one image');
  // Loaded here: no other command needs it.
  const { explainPolicyText } = await import('../image/policy/explain-policy.ts');
  const namespace = stringFlag(flags, 'namespace') ?? '';
  output.stdout(await explainPolicyText({ image: loaded.config.image, name, namespace }));
  return 0;
}
