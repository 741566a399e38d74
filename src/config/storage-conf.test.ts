import assert from 'node:assert/strict';
import { test } from 'node:test';
import { realHost } from './host.ts';
import { parseStorageConf, storageWarnings } from './storage-conf.ts';

const warningsOf = (text: string) =>
  storageWarnings({ ...realHost({ CONTAINERS_STORAGE_CONF: '/s' }), readFile: () => Buffer.from(text) });

test('storageWarnings tells what storage.conf asks for and does not get', () => {
  const text = '[storage]\ndriver_priority = ["vfs", "overlay"]\ntransient_store = true\n';
  const told = [
    '/s:2: "storage.driver_priority" has no effect: the driver is overlay unless "driver" names one',
    '/s:3: "storage.transient_store" has no effect: records of containers stay in the graph root',
  ];
  assert.deepEqual(warningsOf(text), told);
  assert.deepEqual(warningsOf(`${text}driver = "vfs"`), told.slice(1));
  for (const calm of ['driver_priority = []', 'driver_priority = ["overlay", "vfs"]', 'transient_store = false'])
    assert.deepEqual(warningsOf(`[storage]\n${calm}`), []);
});

test('parseStorageConf turns disable-volatile into a driver option', () => {
  const optionsOf = (value: string) =>
    parseStorageConf(Buffer.from(`[storage.options]\ndisable-volatile = ${value}`)).options;
  for (const value of ['true', '"true"']) assert.deepEqual(optionsOf(value), ['overlay.disable-volatile=true']);
  for (const value of ['false', '"false"', '1']) assert.deepEqual(optionsOf(value), []);
});
