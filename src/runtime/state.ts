import { CrioError } from '../base/errors.ts';
import type { RuntimeState } from './runtime.ts';

const statuses = ['creating', 'created', 'running', 'paused', 'stopped'] as const;

/** Output of `RUNTIME state`; fields that this program has no use for are dropped. */
export function parseRuntimeState(text: string): RuntimeState {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CrioError('unknown', 'parse state of the runtime: not JSON', { cause: error });
  }
  if (typeof value !== 'object' || value === null)
    throw new CrioError('unknown', 'parse state of the runtime: no object');
  const fields = new Map<string, unknown>(Object.entries(value));
  const status = statuses.find((known) => known === fields.get('status'));
  if (status === undefined)
    throw new CrioError('unknown', `parse state of the runtime: status ${JSON.stringify(fields.get('status'))}`);
  const pid = fields.get('pid');
  return {
    ociVersion: textOf(fields.get('ociVersion')),
    id: textOf(fields.get('id')),
    status,
    pid: typeof pid === 'number' && Number.isInteger(pid) && pid > 0 ? pid : 0,
    bundle: textOf(fields.get('bundle')),
    created: textOf(fields.get('created')),
    annotations: annotationsOf(fields.get('annotations')),
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** Without a prototype: keys are anybody's. */
function annotationsOf(value: unknown): Readonly<Record<string, string>> {
  const result: Record<string, string> = Object.create(null);
  if (typeof value !== 'object' || value === null) return result;
  for (const [key, text] of Object.entries(value)) if (typeof text === 'string') result[key] = text;
  return result;
}
