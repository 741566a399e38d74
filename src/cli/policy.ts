import { CrioError, hasCode, messageOf } from '../base/errors.ts';
import { boolFlag, flag, stringFlag } from '../config/flags.ts';
import type { Explanation } from '../image/policy/explain-policy.ts';
import { askDaemon, daemonSocket } from './ask-daemon.ts';
import { ArgumentsError } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { registriesFlags } from './registries-flags.ts';

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
      flags: [
        flag({ name: 'namespace', aliases: ['n'], usage: 'namespace of the pod that uses the image' }),
        flag({
          name: 'check',
          type: 'bool',
          default: false,
          usage: 'ask the registry for the signatures and decide about them; a refused image is exit code 1',
        }),
        flag({
          name: 'socket',
          aliases: ['s'],
          usage: 'socket of the daemon; that of the configuration when it is empty',
        }),
      ],
      run: explain,
    },
  ],
};

/** With one of these the question is about other files than the daemon's, unless a daemon is named. */
const ownFiles = [
  'config',
  'config-dir',
  'signature-policy',
  'signature-policy-dir',
  'registries-conf',
  'registries-conf-dir',
  'short-name-mode',
  'global-auth-file',
];

interface Question {
  readonly name: string;
  readonly namespace: string;
  readonly isChecked: boolean;
}

async function explain(context: CommandContext): Promise<number> {
  const { args, flags, globals, output } = context;
  const [name = '', ...more] = args;
  if (name === '' || more.length > 0) throw new ArgumentsError('expected one image');
  const namespace = stringFlag(flags, 'namespace') ?? '';
  const question = { name, namespace, isChecked: boolFlag(flags, 'check') };
  const socket = daemonSocket(context);
  const isNamed = (stringFlag(flags, 'socket') ?? '') !== '';
  const own = isNamed ? undefined : ownFiles.find((file) => globals.get(file)?.source.startsWith('-') === true);
  const answer = own === undefined ? await askTheDaemon(socket, question) : { absent: `as --${own} was given` };
  const { text, isRefused, by } =
    'absent' in answer
      ? { ...(await readFiles(context, question)), by: `the files of this machine, ${answer.absent}` }
      : { ...answer, by: `the daemon on ${socket}` };
  output.stdout(`answered by: ${by}\n${text}`);
  return question.isChecked && isRefused ? 1 : 0;
}

/** A daemon knows best: its flags, its environment, and what it has reloaded. */
async function askTheDaemon(
  socket: string,
  { name, namespace, isChecked }: Question,
): Promise<Explanation | { readonly absent: string }> {
  const query = new URLSearchParams({ image: name, namespace, ...(isChecked ? { check: 'true' } : {}) });
  let answer;
  try {
    answer = await askDaemon(socket, { method: 'GET', path: `/policy?${query.toString()}` });
  } catch (error) {
    const { cause } = error instanceof Error ? error : {};
    if (!hasCode(cause, 'ENOENT', 'ENOTDIR', 'ECONNREFUSED', 'EACCES')) throw error;
    return { absent: `as no daemon answers on ${socket}` };
  }
  let body = '';
  for await (const chunk of answer.body) body += chunk;
  // CRI-O does not know this path.
  if (answer.status === 404) return { absent: `as the daemon on ${socket} cannot explain` };
  if (answer.status !== 200) throw new CrioError('unknown', body.trim());
  return parseAnswer(body);
}

function parseAnswer(body: string): Explanation {
  const value: unknown = JSON.parse(body);
  if (typeof value !== 'object' || value === null || !('text' in value) || typeof value.text !== 'string')
    throw new CrioError('unknown', 'the daemon answered something else');
  return { text: value.text, isRefused: 'refused' in value && value.refused === true };
}

/** As a daemon with this configuration would answer; it may be stopped. */
async function readFiles({ globals, loaded, host, log }: CommandContext, question: Question): Promise<Explanation> {
  // Loaded here: no other command needs it.
  const { explainFromFiles } = await import('../image/policy/explain-from-files.ts');
  try {
    return await explainFromFiles({
      ...question,
      image: loaded.config.image,
      registries: registriesFlags(globals),
      env: host.env,
      log,
    });
  } catch (error) {
    throw new CrioError('unknown', messageOf(error), { cause: error });
  }
}
