import { CrioError } from '../../base/errors.ts';
import { MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_NOATIME } from '../../sys/mount.ts';

/** Flags that may stand in `mountopt`; the rest goes to overlay itself. */
const flagOptions: ReadonlyMap<string, number> = new Map([
  ['ro', MS_RDONLY],
  ['nodev', MS_NODEV],
  ['nosuid', MS_NOSUID],
  ['noexec', MS_NOEXEC],
  ['noatime', MS_NOATIME],
  ['rw', 0],
  ['dev', 0],
  ['suid', 0],
  ['exec', 0],
]);

export interface PlanInput {
  /** Lower folders, topmost first. */
  readonly lowers: readonly string[];
  /** Undefined for a read-only mount. */
  readonly upper: string | undefined;
  readonly work: string | undefined;
  /** Configured `mountopt` items */
  readonly options: readonly string[];
  readonly isVolatile: boolean;
  readonly label: string;
}

/** What goes to mount(2) beside source and target. */
export interface OverlayMount {
  readonly flags: number;
  readonly data: string;
}

export const maxLowers = 500;

/**
 * Options of an overlay mount, in the order that other programs write them. Commas and colons would end an option or a
 * lower folder; overlay takes them escaped.
 */
export function planMount(input: PlanInput): OverlayMount {
  if (input.lowers.length > maxLowers) {
    throw new CrioError(
      'failed-precondition',
      `mount overlay: ${input.lowers.length} layers, at most ${maxLowers} are possible`,
    );
  }
  const parts = [`lowerdir=${input.lowers.map(escapeLower).join(':')}`];
  if (input.upper !== undefined && input.work !== undefined) {
    parts.push(`upperdir=${escapeComma(input.upper)}`, `workdir=${escapeComma(input.work)}`);
  }
  let flags = input.upper === undefined ? MS_RDONLY : 0;
  for (const option of input.options) {
    const flag = flagOptions.get(option);
    if (flag === undefined) parts.push(option);
    else flags |= flag;
  }
  if (input.isVolatile && input.upper !== undefined) parts.push('volatile');
  if (input.label !== '') parts.push(`context="${input.label}"`);
  return { flags, data: parts.join(',') };
}

function escapeLower(path: string): string {
  return path.replace(/[\\,:]/g, (char) => `\\${char}`);
}

function escapeComma(path: string): string {
  return path.replace(/[\\,]/g, (char) => `\\${char}`);
}

/** The `overlay.mountopt` value as a list. */
export function splitMountOptions(text: string): readonly string[] {
  return text.split(',').filter((option) => option !== '');
}
