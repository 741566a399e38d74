import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NewImage } from '../store.ts';
import { FieldError } from './json-fields.ts';
import { factsOf, imageJson, namesJson, parseImage } from './image-record.ts';

const id = 'a'.repeat(64);
const digest = (letter: string) => `sha256:${letter.repeat(64)}`;

function newImage(change: Partial<NewImage> = {}): NewImage {
  const manifest = digest('b');
  return {
    id,
    digest: manifest,
    addNames: ['example.org/a:1'],
    topLayer: 'c'.repeat(64),
    createdNs: 1_700_000_000_000_000_000n,
    metadata: '{}',
    bigData: [
      { key: digest('a'), data: Buffer.from('config'), digest: digest('a') },
      { key: `manifest-${manifest}`, data: Buffer.from('m'), digest: manifest },
      { key: 'manifest', data: Buffer.from('m'), digest: manifest },
    ],
    ...change,
  };
}

test('imageJson writes the keys of a new image in the order of the format', () => {
  const raw = imageJson(factsOf(newImage()), undefined);
  assert.deepEqual(Object.keys(JSON.parse(JSON.stringify(raw))), [
    'id',
    'digest',
    'names',
    'names-history',
    'layer',
    'metadata',
    'big-data-names',
    'big-data-sizes',
    'big-data-digests',
    'created',
  ]);
  assert.equal(raw['created'], '2023-11-14T22:13:20Z');
  assert.deepEqual(parseImage(raw).digests, [digest('b')]);
});

test('imageJson keeps the first digest of an image that is pulled again, and adds the new manifest', () => {
  const first = JSON.parse(JSON.stringify({ ...imageJson(factsOf(newImage()), undefined), flags: { kept: 1 } }));
  const manifest = digest('e');
  const again = newImage({
    digest: manifest,
    addNames: ['example.org/a:2'],
    bigData: [
      { key: `manifest-${manifest}`, data: Buffer.from('mm'), digest: manifest },
      { key: 'manifest', data: Buffer.from('mm'), digest: manifest },
    ],
  });
  const raw = imageJson(factsOf(again), first);
  const image = parseImage(raw);
  assert.equal(image.digest, digest('b'));
  assert.deepEqual(image.names, ['example.org/a:2', 'example.org/a:1']);
  assert.deepEqual(image.bigDataNames, [digest('a'), `manifest-${digest('b')}`, 'manifest', `manifest-${manifest}`]);
  assert.equal(image.bigDataSizes.get('manifest'), 2);
  assert.deepEqual(image.digests, [digest('b'), manifest]);
  assert.deepEqual(raw['flags'], { kept: 1 });
});

test('namesJson moves current names to the front of the history, in reverse order', () => {
  assert.deepEqual(namesJson(['a', 'b'], ['old']), { names: ['a', 'b'], 'names-history': ['b', 'a', 'old'] });
  assert.deepEqual(namesJson(['b'], ['b', 'a', 'old'])['names-history'], ['b', 'a', 'old']);
  assert.deepEqual(namesJson([], []), { names: undefined, 'names-history': undefined });
});

test('parseImage accepts records with most keys absent, and refuses bad digests', () => {
  const image = parseImage({ id });
  assert.deepEqual([image.names, image.topLayer, image.digests, image.createdNs], [[], undefined, [], 0n]);
  assert.throws(() => parseImage({ id, digest: 'sha256' }), FieldError);
  assert.throws(() => parseImage({ id: '../x' }), FieldError);
  assert.throws(() => parseImage({ id, names: 'x' }), FieldError);
  assert.throws(() => parseImage({ id, 'big-data-sizes': { a: 'x' } }), FieldError);
});
