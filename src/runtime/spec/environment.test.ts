import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type EnvironmentRequest, mergeEnvironment, variable } from './environment.ts';

const base: EnvironmentRequest = {
  base: ['PATH=/bin', 'TERM=xterm'],
  terminal: false,
  systemd: false,
  hostname: 'pod',
  defaults: [],
  request: [],
  image: [],
  extra: [],
};

test('mergeEnvironment puts the request above the image and both above the rest', () => {
  const env = mergeEnvironment({
    ...base,
    defaults: ['A=default', 'B=default'],
    request: [{ key: 'B', value: 'request' }],
    image: ['PATH=/image', 'B=image', 'C=image=x', 'HOSTNAME=mine'],
  });
  assert.deepEqual(env, ['PATH=/image', 'TERM=xterm', 'HOSTNAME=mine', 'A=default', 'B=request', 'C=image=x']);
});

test('mergeEnvironment skips entries without name or value', () => {
  const env = mergeEnvironment({ ...base, request: [{ key: '', value: 'x' }], image: ['alone', '=x', 'EMPTY='] });
  assert.deepEqual(env, ['PATH=/bin', 'TERM=xterm', 'HOSTNAME=pod', 'EMPTY=']);
});

test('CVE-2026-57231: entries of an image that name no value take none from the environment of the daemon', (t) => {
  process.env['REGISTRY_TOKEN'] = 'secret';
  t.after(() => delete process.env['REGISTRY_TOKEN']);
  const env = mergeEnvironment({ ...base, image: ['REGISTRY_TOKEN', '*', 'REGISTRY_*', '=', '', '*=*'] });
  assert.deepEqual(env, ['PATH=/bin', 'TERM=xterm', 'HOSTNAME=pod', '*=*']);
});

test('mergeEnvironment names systemd containers', () => {
  assert.equal(variable(mergeEnvironment({ ...base, systemd: true }), 'container'), 'crio');
});

test('mergeEnvironment names every variable once and keeps every value of the request', () => {
  const key = fc.stringMatching(/^[A-Z]{1,3}$/);
  const entry = fc.tuple(key, fc.string()).map(([name, value]) => `${name}=${value}`);
  const request = fc.array(fc.record({ key, value: fc.string() }));
  fc.assert(
    fc.property(fc.array(entry), request, fc.array(entry), (defaults, asked, image) => {
      const env = mergeEnvironment({ ...base, defaults, request: asked, image });
      const names = env.map((text) => text.slice(0, text.indexOf('=')));
      assert.equal(new Set(names).size, names.length);
      for (const { key: name } of asked) {
        assert.equal(variable(env, name), asked.findLast((other) => other.key === name)?.value);
      }
    }),
  );
});
