import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CrioError } from '../base/errors.ts';
import { globalFlags } from './flags.ts';
import { parseFlags } from './parse-flags.ts';

function parse(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { values, rest } = parseFlags(globalFlags, args, env);
  return { values: Object.fromEntries([...values].map(([name, { value }]) => [name, value])), rest };
}

test('one dash or two, a blank or an equals sign', () => {
  for (const args of [
    ['-log-level', 'debug'],
    ['--log-level', 'debug'],
    ['-log-level=debug'],
    ['--log-level=debug'],
    ['-l', 'debug'],
  ]) {
    assert.deepEqual(parse(args).values, { 'log-level': 'debug' });
  }
});

test('booleans take a value only behind an equals sign', () => {
  assert.deepEqual(parse(['--selinux', 'true']), { values: { selinux: true }, rest: ['true'] });
  assert.deepEqual(parse(['--selinux=f']).values, { selinux: false });
  assert.throws(() => parse(['--selinux=yes']), {
    message: 'invalid boolean value "yes" for flag -selinux: parse error',
  });
});

test('lists are split at commas and add up', () => {
  assert.deepEqual(parse(['--hooks-dir', 'a, b', '--hooks-dir=c']).values, { 'hooks-dir': ['a', 'b', 'c'] });
});

test('numbers and durations are read as Go reads them', () => {
  assert.deepEqual(parse(['--pids-limit=0x10', '--metrics-port', '1_000', '--ctr-stop-timeout=-017']).values, {
    'pids-limit': 16,
    'metrics-port': 1000,
    'ctr-stop-timeout': -15,
  });
  assert.deepEqual(parse(['--pull-progress-timeout', '1m']).values, { 'pull-progress-timeout': 60_000 });
  assert.throws(() => parse(['--pids-limit', 'x']), { message: 'invalid value "x" for flag -pids-limit: parse error' });
  assert.throws(() => parse(['--pids-limit', '99999999999999999999']), { message: /value out of range$/ });
});

test('flags end at the first word, and at two dashes', () => {
  assert.deepEqual(parse(['-r', '/x', 'config', '--default']), {
    values: { root: '/x' },
    rest: ['config', '--default'],
  });
  assert.deepEqual(parse(['--', '-r']), { values: {}, rest: ['-r'] });
  assert.deepEqual(parse(['-']), { values: {}, rest: ['-'] });
});

test('wrong flags get the text of Go', () => {
  assert.throws(() => parse(['--nope']), { message: 'flag provided but not defined: -nope' });
  assert.throws(() => parse(['--root']), { message: 'flag needs an argument: -root' });
  assert.throws(() => parse(['---root=x']), { message: 'bad flag syntax: ---root=x' });
});

test('the environment fills in what is not given', () => {
  const env = { CONTAINER_ROOT: '/e', CONTAINER_RUNROOT: '/r' };
  assert.deepEqual(parse(['--root', '/f'], env).values, { root: '/f', runroot: '/r' });
  assert.throws(() => parse([], { CONTAINER_PIDS_LIMIT: 'x' }), {
    message: /^could not parse "x" as int value from environment variable "CONTAINER_PIDS_LIMIT"/,
  });
});

test('an empty variable sets strings, booleans and lists, not numbers and durations', () => {
  const env = {
    CONTAINER_ROOT: '',
    CONTAINER_SELINUX: '',
    CONTAINER_DEFAULT_ENV: '',
    CONTAINER_PIDS_LIMIT: '',
    CONTAINER_PULL_PROGRESS_TIMEOUT: '',
  };
  assert.deepEqual(parse([], env).values, { root: '', selinux: false, 'default-env': [''] });
});

test('any words are parsed or refused with a CrioError', () => {
  const word = fc.oneof(
    fc.string(),
    fc.constantFrom('--', '-', '--root', '-l', '--selinux', '--selinux=', '--x=y', '=', '-='),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 6 }), (args) => {
      try {
        const { rest } = parse(args);
        assert.deepEqual(rest, args.slice(args.length - rest.length));
      } catch (error) {
        assert.ok(error instanceof CrioError, String(error));
      }
    }),
  );
});
