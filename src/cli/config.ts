import { boolFlag, flag } from '../config/flags.ts';
import { hostDefaults } from '../config/load.ts';
import { printTemplate } from '../config/print-template.ts';
import { validateLight } from '../config/validate.ts';
import type { Command } from './command.ts';
import { warnAboutContainerFiles } from './container-files.ts';

export const configCommand: Command = {
  name: 'config',
  aliases: [],
  usage: 'print the configuration as a commented file that can be used as crio.conf',
  flags: [flag({ name: 'default', type: 'bool', default: false, usage: 'print the built-in defaults' })],
  async run(context) {
    const { flags, loaded, host, log, output } = context;
    const defaults = hostDefaults(host);
    const isDefault = boolFlag(flags, 'default');
    const config = validateLight(isDefault ? defaults : loaded.config, { host, log });
    if (!isDefault) await warnAboutContainerFiles(context);
    output.stdout(printTemplate(isDefault ? defaults : config, defaults, isDefault));
    return 0;
  },
};
