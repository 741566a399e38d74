import { kill, pid } from 'node:process';
import { makeTestWorld, podConfig, testCall } from './test-world.ts';

/** `node test-crash-child.ts FOLDER PLUGINS STAGE [MS]`: makes a pod and kills itself at the stage, or some ms after it. */
const [folder = '', plugins = '', stage = '', delay = '0'] = process.argv.slice(2);

const world = await makeTestWorld({ folder, pluginDirs: plugins.split(':') });
const onStage = (name: string) => {
  if (name !== stage) return;
  if (delay === '0') kill(pid, 'SIGKILL');
  else setTimeout(() => kill(pid, 'SIGKILL'), Number(delay));
};
await world.pods.run(testCall({ onStage }), podConfig('crash'), '');
