import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Logger } from '../../base/log.ts';
import { NodeNetworks } from './node-networks.ts';

test('why a configuration file is not used is said once, again when it is another reason, and when the file came back', async () => {
  using stack = new DisposableStack();
  const directory = mkdtempSync(join(tmpdir(), 'node-networks-'));
  stack.defer(() => rmSync(directory, { recursive: true }));
  const [networkDir, plugins] = [join(directory, 'net.d'), join(directory, 'plugins')];
  mkdirSync(networkDir);
  const file = join(networkDir, '10-test.conflist');
  const configure = (type: string) =>
    writeFileSync(file, JSON.stringify({ cniVersion: '1.0.0', name: 'test', plugins: [{ type }] }));
  const lines: string[] = [];
  const log = new Logger({ level: 'info', filter: undefined, format: 'text', write: (line) => lines.push(line) });
  const told = () => lines.splice(0).filter((line) => line.includes('Error validating'));

  configure('missing');
  const options = { networkDir, pluginDirs: [plugins], defaultNetwork: '', log };
  const networks = stack.use(await NodeNetworks.open(options));
  for (let times = 0; times < 3; times += 1) await networks.reload();
  const [line = '', ...others] = told();
  assert.ok(
    line.includes(`level=warning msg="Error validating CNI config file ${file}: [failed to find plugin \\"missing\\"`),
  );
  assert.deepEqual(others, []);

  configure('other');
  for (let times = 0; times < 3; times += 1) await networks.reload();
  assert.equal(told().filter((text) => text.includes('other')).length, 1);

  rmSync(file);
  await networks.reload();
  configure('other');
  await networks.reload();
  assert.equal(told().length, 1);
});
