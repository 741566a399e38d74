import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { silentLog } from '../../base/log.ts';
import { FieldError, textField, textListField } from './json-fields.ts';
import { RecordIndex } from './record-index.ts';

function setUp(
  t: { after: (work: () => void) => void },
  contents: Readonly<Record<string, string>> = {},
  options: { readonly sharesNames?: boolean } = {},
) {
  const folder = mkdtempSync(`${tmpdir()}/record-index-`);
  t.after(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(contents)) writeFileSync(`${folder}/${name}`, text);
  const index = new RecordIndex({
    files: [
      { path: `${folder}/stable.json`, durable: true },
      { path: `${folder}/volatile.json`, durable: false },
    ],
    parse(raw) {
      const id = textField(raw, 'id');
      if (id === '') throw new FieldError('"id" is empty');
      return { id, names: textListField(raw, 'names') };
    },
    log: silentLog,
    ...options,
  });
  const save = async () => {
    for (const write of await index.prepareSave()) await write.commit();
  };
  return { folder, index, save };
}

const ids = (index: { list(): readonly { id: string }[] }) => index.list().map((record) => record.id);

test('RecordIndex keeps keys that it does not know, and the order of records', async (t) => {
  const { folder, index, save } = setUp(t, { 'stable.json': '[{"id":"b","future":{"x":1}},{"id":"a","names":["n"]}]' });
  await index.load();
  assert.deepEqual(ids(index), ['b', 'a']);
  index.put({ id: 'c' }, `${folder}/stable.json`);
  index.remove('a');
  await save();
  assert.equal(readFileSync(`${folder}/stable.json`, 'utf8'), '[{"id":"b","future":{"x":1}},{"id":"c"}]');
  assert.deepEqual(readdirSync(folder), ['stable.json']);
  assert.equal(index.filesChanged(), false);
});

test('RecordIndex sets bad records aside and keeps them in a file of their own', async (t) => {
  const { folder, index } = setUp(t, { 'stable.json': '[{"id":"a"},{"id":5},{"id":"b"},"x"]' });
  await index.load();
  assert.deepEqual(ids(index), ['a', 'b']);
  assert.equal(index.hasDamage, true);
  const kept = readdirSync(folder).filter((name) => name.startsWith('quarantine-stable-'));
  assert.equal(kept.length, 1);
  assert.deepEqual(JSON.parse(readFileSync(`${folder}/${kept[0]}`, 'utf8')).records, ['"x"', '{"id":5}']);
  await index.load();
  assert.equal(readdirSync(folder).length, 2, 'the same damage is kept once');
});

test('RecordIndex skips an id that an earlier file has', async (t) => {
  const { index } = setUp(t, {
    'stable.json': '[{"id":"a","names":["s"]}]',
    'volatile.json': '[{"id":"a","names":["v"]},{"id":"b"}]',
  });
  await index.load();
  assert.deepEqual(ids(index), ['a', 'b']);
  assert.equal(index.getByName('v'), undefined);
});

test('RecordIndex leaves a name that two records have with the later one', async (t) => {
  const { index, folder, save } = setUp(t, {
    'stable.json': '[{"id":"a","names":["n","m"]},{"id":"b","names":["n"]}]',
  });
  await index.load();
  assert.equal(index.getByName('n')?.id, 'b');
  assert.deepEqual(index.get('a')?.names, ['m']);
  await save();
  assert.equal(readFileSync(`${folder}/stable.json`, 'utf8'), '[{"id":"a","names":["m"]},{"id":"b","names":["n"]}]');
});

test('RecordIndex finds by id, then name, then unique prefix', async (t) => {
  const { index } = setUp(t, { 'stable.json': '[{"id":"abc1"},{"id":"abd2","names":["abc"]},{"id":"abe3"}]' });
  await index.load();
  assert.equal(index.find('abc1')?.id, 'abc1');
  assert.equal(index.find('abc')?.id, 'abd2');
  assert.equal(index.find('abe')?.id, 'abe3');
  assert.equal(index.find('ab'), undefined);
  assert.equal(index.find(''), undefined);
});

test('RecordIndex refuses a name in use', async (t) => {
  const { index, folder } = setUp(t);
  await index.load();
  index.put({ id: 'a', names: ['n'] }, `${folder}/volatile.json`);
  assert.throws(() => index.put({ id: 'b', names: ['n'] }, `${folder}/volatile.json`), /name "n" is in use by a/);
  index.put({ id: 'a', names: ['m'] }, `${folder}/volatile.json`);
  index.put({ id: 'b', names: ['n'] }, `${folder}/volatile.json`);
  assert.equal(index.getByName('n')?.id, 'b');
});

test('RecordIndex never shows a part of its records while it loads', async (t) => {
  const { index, folder } = setUp(t, { 'stable.json': '[{"id":"a"},{"id":5}]', 'volatile.json': '[{"id":"b"}]' });
  await index.load();
  writeFileSync(`${folder}/volatile.json`, '[{"id":"b"},{"id":"c"}]');
  const seen = new Set<string>();
  const loaded = index.load().then(() => true);
  // Unreadable records are written to the disk meanwhile.
  while ((await Promise.race([loaded, nextTurn()])) !== true) seen.add(`${ids(index).join()} ${index.get('b')?.id}`);
  for (const each of seen) assert.match(each, /^a,b(?:,c)? b$/);
  assert.deepEqual(ids(index), ['a', 'b', 'c']);
});

test('RecordIndex keeps a record that an earlier file has, too, and removes both', async (t) => {
  const { folder, index, save } = setUp(t, {
    'stable.json': '[{"id":"a","names":["first"]}]',
    'volatile.json': '[{"id":"b"},{"id":"a","names":["second"]}]',
  });
  await index.load();
  assert.deepEqual([ids(index), index.listHidden().length], [['a', 'b'], 1]);
  assert.deepEqual([index.getByName('first')?.id, index.getByName('second')], ['a', undefined]);
  assert.deepEqual(index.filesOf('a'), [`${folder}/stable.json`, `${folder}/volatile.json`]);
  index.remove('b');
  await save();
  assert.equal(readFileSync(`${folder}/volatile.json`, 'utf8'), '[{"id":"a","names":["second"]}]');
  index.remove('a');
  await save();
  for (const name of ['stable', 'volatile']) assert.equal(readFileSync(`${folder}/${name}.json`, 'utf8'), '[]');
});

test('RecordIndex with shared names has those of all files, and each stays in the files that have it', async (t) => {
  const { folder, index, save } = setUp(
    t,
    {
      'stable.json': '[{"id":"a","names":["first","both","p"]},{"id":"c","names":["q"]}]',
      'volatile.json': '[{"id":"a","names":["second","both","q"]},{"id":"b","names":["p"]}]',
    },
    { sharesNames: true },
  );
  const content = (name: string) => {
    const records: { id: string; names?: string[] }[] = JSON.parse(readFileSync(`${folder}/${name}.json`, 'utf8'));
    return records.map(({ id, names = [] }) => [id, ...names].join(' '));
  };
  await index.load();
  assert.deepEqual(
    [ids(index), index.get('a')?.names],
    [
      ['a', 'c', 'b'],
      ['first', 'both', 'second', 'q'],
    ],
  );
  for (const [name, id] of Object.entries({ first: 'a', second: 'a', both: 'a', q: 'a', p: 'b' }))
    assert.equal(index.getByName(name)?.id, id, name);
  await save();
  assert.deepEqual(content('stable'), ['a first both', 'c']);
  assert.deepEqual(content('volatile'), ['a second both q', 'b p']);

  assert.throws(() => index.put({ id: 'b', names: ['second'] }, `${folder}/volatile.json`), /in use by a/);
  const put = (...names: string[]) => index.put({ ...index.raw('a'), names }, `${folder}/stable.json`).names;
  assert.deepEqual(put('new', 'second', 'both', 'first'), ['new', 'both', 'first', 'second']);
  await save();
  assert.deepEqual([content('stable')[0], content('volatile')[0]], ['a new both first', 'a second both']);
  assert.deepEqual(put('new', 'first'), ['new', 'first']);
  assert.equal(index.getByName('second'), undefined);
  await save();
  await index.load();
  assert.deepEqual([index.get('a')?.names, index.isDirty], [['new', 'first'], false]);
  assert.deepEqual([content('stable')[0], content('volatile')[0]], ['a new first', 'a']);
});

test('RecordIndex takes a shared name from every file that has it when a later record has it, too', async (t) => {
  const { index, save, folder } = setUp(
    t,
    {
      'stable.json': '[{"id":"a","names":["n"]}]',
      'volatile.json': '[{"id":"a","names":["n","m"]},{"id":"b","names":["n"]}]',
    },
    { sharesNames: true },
  );
  await index.load();
  assert.deepEqual([index.get('a')?.names, index.getByName('n')?.id], [['m'], 'b']);
  await save();
  assert.equal(readFileSync(`${folder}/stable.json`, 'utf8'), '[{"id":"a"}]');
  assert.equal(readFileSync(`${folder}/volatile.json`, 'utf8'), '[{"id":"a","names":["m"]},{"id":"b","names":["n"]}]');
});
