import { wrap } from '../base/errors.ts';
import { run } from '../sys/run.ts';

/** Copies the content of a layer as it is, with owners, times, extended attributes and whiteouts, to a path that is free. */
export async function copyTree(source: string, target: string): Promise<void> {
  const env = { PATH: process.env['PATH'] ?? '', LC_ALL: 'C' };
  const { code, stderr } = await run({ file: 'cp', args: ['-a', '--reflink=auto', '-T', source, target], env });
  if (code !== 0) throw wrap(`copy layer "${source}"`, new Error(stderr.toString().trim()));
}
