import assert from 'node:assert/strict';
import { userInfo } from 'node:os';
import { test } from 'node:test';
import { configHome, homeFolder } from './home-folder.ts';

test('a service that is started without HOME has that of its user, never a relative folder', () => {
  const { homedir } = userInfo();
  assert.match(homedir, /^\//);
  for (const env of [{}, { HOME: '' }, { HOME: '', XDG_CONFIG_HOME: '' }]) {
    assert.equal(homeFolder(env), homedir);
    assert.equal(configHome(env), `${homedir}/.config`);
  }
  assert.equal(homeFolder({ HOME: '/h' }), '/h');
  assert.equal(configHome({ HOME: '/h' }), '/h/.config');
  assert.equal(configHome({ HOME: '/h', XDG_CONFIG_HOME: '/x' }), '/x');
});
