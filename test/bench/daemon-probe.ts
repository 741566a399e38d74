/**
 * Loaded into the daemon with `--import`: on SIGUSR2 it collects garbage and writes what only the process itself knows to
 * the file that CRIO_BENCH_PROBE names.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collectGarbage: unknown = runInNewContext('gc');
const file = process.env['CRIO_BENCH_PROBE'];

if (file !== undefined && typeof collectGarbage === 'function') {
  process.on('SIGUSR2', () => {
    collectGarbage();
    const timers = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    writeFileSync(`${file}.new`, JSON.stringify({ timers, heapUsed: process.memoryUsage().heapUsed }));
    renameSync(`${file}.new`, file);
  });
}
