import { buildInfo, releaseVersion, runtimeVersion } from '../base/version.ts';
import { boolFlag, flag } from '../config/flags.ts';
import type { Command } from './command.ts';

type Field = readonly [label: string, value: string | boolean | readonly string[]];

/** In the order and under the labels of CRI-O; `Release` is our own number. */
function versionFields(isVerbose: boolean): readonly Field[] {
  const fields: readonly Field[] = [
    ['Version', runtimeVersion],
    ['Release', `crio-ts ${releaseVersion}`],
    ['GitCommit', buildInfo.commit],
    ['GitCommitDate', buildInfo.commitDate],
    ['GitTreeState', buildInfo.treeState],
    ['BuildDate', buildInfo.buildDate],
    ['GoVersion', `none (Node.js ${process.version})`],
    ['Compiler', 'node'],
    ['Platform', `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`],
    ['Linkmode', 'dynamic'],
    ['LDFlags', 'unknown'],
    ['SeccompEnabled', true],
    ['AppArmorEnabled', true],
    ['Dependencies', isVerbose ? buildInfo.dependencies : []],
  ];
  return fields.filter(([, value]) => typeof value === 'boolean' || value.length > 0);
}

/** `Label:` padded to one column, two spaces, value; lists one item per line. */
export function versionText(isVerbose = false): string {
  const fields = versionFields(isVerbose);
  const width = Math.max(...fields.map(([label]) => label.length)) + 1;
  return fields
    .map(([label, value]) => {
      const start = `${label}:`.padEnd(width);
      if (typeof value !== 'object') return `${start}  ${value}\n`;
      return `${label}:\n${value.map((item) => `  ${item}\n`).join('')}`;
    })
    .join('');
}

function versionJson(isVerbose: boolean): string {
  const entries = versionFields(isVerbose).map(([label, value]) => [jsonKey(label), value] as const);
  return JSON.stringify(Object.fromEntries(entries), undefined, 2);
}

function jsonKey(label: string): string {
  return label === 'LDFlags' ? 'ldFlags' : label.charAt(0).toLowerCase() + label.slice(1);
}

/** What `crio --version` prints. */
export function versionSummary(): string {
  const [first = '', ...more] = versionText().trimEnd().split('\n');
  return [`crio version ${first.replace(/^Version:\s*/, '')}`, ...more.map((line) => `   ${line}`)]
    .join('\n')
    .concat('\n');
}

export const versionCommand: Command = {
  name: 'version',
  aliases: [],
  usage: 'display detailed version information',
  flags: [
    flag({ name: 'json', aliases: ['j'], type: 'bool', default: false, usage: 'print JSON instead of text' }),
    flag({ name: 'verbose', aliases: ['v'], type: 'bool', default: false, usage: 'print the dependencies too' }),
  ],
  run({ flags, output }) {
    const isVerbose = boolFlag(flags, 'verbose');
    output.stdout(boolFlag(flags, 'json') ? versionJson(isVerbose) : versionText(isVerbose));
    return 0;
  },
};
