/** `make bench`: enters the test environment and measures there; see docs/performance.md. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { repository } from '../run/stage.ts';

const args = [
  join(repository, 'test/run/main.ts'),
  process.execPath,
  join(import.meta.dirname, 'measure.ts'),
  ...process.argv.slice(2),
];
const child = spawn(process.execPath, args, { stdio: 'inherit' });
process.exitCode = await new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
