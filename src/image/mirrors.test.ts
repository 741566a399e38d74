import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '../base/log.ts';
import { defaultConfig } from '../config/config.ts';
import { failure, noise, openBench } from './testing/bench.ts';
import { putImage, sendError, startFakeRegistry } from './testing/fake-registry.ts';

describe('busy registries', () => {
  for (const [shape, headers] of [
    ['seconds', { 'Retry-After': '1' }],
    ['a date', { 'Retry-After': 'date' }],
    ['nothing', {}],
  ] as const) {
    it(`waits after 429 with ${shape}`, async () => {
      await using bench = await openBench();
      const { registry } = bench;
      const image = putImage(registry, 'a', '1');
      let refusals = 0;
      registry.handle = (request, response) => {
        if (request.url?.includes('/manifests/') !== true || refusals === 1) return false;
        refusals += 1;
        const values: Record<string, string> =
          'Retry-After' in headers
            ? { 'Retry-After': headers['Retry-After'] === 'date' ? new Date(Date.now() + 900).toUTCString() : '1' }
            : {};
        sendError(response, shape === 'nothing' ? 503 : 429, 'TOOMANYREQUESTS', 'slow down', values);
        return true;
      };
      assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
    });
  }

  for (const [shape, value] of [
    ['seconds', () => '86400'],
    ['a date', () => new Date(Date.now() + 86_400_000).toUTCString()],
  ] as const) {
    it(`does not wait longer than its budget for ${shape}`, async () => {
      await using bench = await openBench();
      const { registry } = bench;
      registry.handle = (request, response) => {
        if (request.url === '/v2/') return false;
        sendError(response, 429, 'TOOMANYREQUESTS', 'come back tomorrow', { 'Retry-After': value() });
        return true;
      };
      assert.match(
        await failure(bench.pull(`${registry.host}/a:1`)),
        /asks to wait 86[34]\d\d s: 429 too many requests: TOOMANYREQUESTS: come back tomorrow/,
      );
    });
  }
});

describe('files with mistakes', () => {
  it('are named in the log at start, registries.conf again when it is read again', async () => {
    const lines: string[] = [];
    const log = new Logger({ level: 'warn', filter: undefined, format: 'text', write: (line) => lines.push(line) });
    await using bench = await openBench({
      log,
      toml: () => '[[registry]]\nlocation = "a.test"\ninsecur = true',
      policy: { default: [{ type: 'reject' }], transport: {} },
    });
    assert.equal(lines.length, 2);
    assert.match(lines[0] ?? '', /registries\.conf: unknown key .*insecur.* is ignored; did you mean .*insecure/);
    assert.match(
      lines[1] ?? '',
      /no image can be pulled .*policy\.json.*unknown key .*transport.*; did you mean .*transports/,
    );
    await bench.images.reload({ image: defaultConfig().image });
    assert.equal(lines.length, 3);
    assert.equal(lines[2]?.replace(/^time="[^"]*"/, ''), lines[0]?.replace(/^time="[^"]*"/, ''));
  });
});

describe('auto_reload_registries', () => {
  it(
    'reads registries.conf.d again when it changes; a file that is wrong changes nothing',
    { timeout: 20_000 },
    async () => {
      await using elsewhere = await startFakeRegistry();
      await using bench = await openBench({ image: () => ({ autoReloadRegistries: true }) });
      const image = putImage(elsewhere, 'moved/a', '1');
      const drop = (name: string, text: string) => writeFile(join(bench.dir, 'registries.conf.d', name), text);
      assert.match(await failure(bench.pull(`${bench.registry.host}/a:1`)), /404/);
      await drop('10-bad.conf', 'x = [');
      await drop(
        '20-good.conf',
        `[[registry]]\nprefix = "${bench.registry.host}"\nlocation = "${elsewhere.host}/moved"\ninsecure = true`,
      );
      await sleep(400);
      assert.match(await failure(bench.pull(`${bench.registry.host}/a:1`)), /404/);
      await rm(join(bench.dir, 'registries.conf.d/10-bad.conf'));
      for (;;) {
        const id = await bench.pull(`${bench.registry.host}/a:1`).catch(() => undefined);
        if (id === image.id) return;
        await sleep(20);
      }
    },
  );
});

const mirrorToml = (mirror: string) => (host: string) =>
  `[[registry]]\nlocation = "${host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${mirror}"\ninsecure = true`;

describe('mirrors', () => {
  it('that answer with a page, or with a manifest that is none, are passed over; both are named when all fail', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({ toml: mirrorToml(mirror.host) });
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    for (const [contentType, body] of [
      ['text/html', '<html>log in</html>'],
      ['application/vnd.oci.image.manifest.v1+json', '{"schemaVersion":2}'],
    ]) {
      mirror.handle = (_, response) => response.setHeader('Content-Type', contentType ?? '').end(body).writableEnded;
      assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
      const text = await failure(bench.pull(`${registry.host}/a:2`));
      assert.match(text, /http:\/\/\S+ \(mirror, no credentials\): .*; http:\/\/\S+ \(no credentials\): 404/);
    }
  });

  for (const [shape, spoil] of [
    ['other bytes', (blob: Buffer) => Buffer.from(blob).fill(0x55, 100, 200)],
    ['more bytes', (blob: Buffer) => Buffer.concat([blob, blob])],
    ['a page', () => Buffer.from('<html>log in</html>')],
  ] as const) {
    it(`that send ${shape} as a blob are left for the next place`, async () => {
      await using mirror = await startFakeRegistry();
      await using bench = await openBench({ toml: mirrorToml(mirror.host) });
      const { registry } = bench;
      const layers = [noise(5000)];
      const image = putImage(registry, 'a', '1', { layers });
      putImage(mirror, 'a', '1', { layers });
      for (const [digest, blob] of mirror.blobs) mirror.blobs.set(digest, spoil(blob));
      assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
      const [layer = ''] = image.layerDigests;
      assert.ok(mirror.requests.some(({ line }) => line.endsWith(layer)));
    });
  }

  it('and the registry are both named when both send a wrong blob', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({ toml: mirrorToml(mirror.host) });
    const { registry } = bench;
    const layers = [noise(5000)];
    for (const place of [registry, mirror]) {
      const [digest = ''] = putImage(place, 'a', '1', { layers }).layerDigests;
      place.blobs.set(digest, Buffer.from(place.blobs.get(digest) ?? '').fill(0x55, 100, 200));
    }
    const text = await failure(bench.pull(`${registry.host}/a:1`));
    const wrong = 'blob has digest sha256:\\w+, expected sha256:\\w+';
    assert.match(
      text,
      new RegExp(
        `${mirror.host} \\(mirror, no credentials\\): ${wrong}; http://${registry.host} \\(no credentials\\): ${wrong}`,
      ),
    );
  });

  it('that are dead do not hide that the registry sends a wrong blob', async () => {
    const dead = await startFakeRegistry();
    await dead[Symbol.asyncDispose]();
    await using bench = await openBench({ toml: mirrorToml(dead.host) });
    const { registry } = bench;
    const [digest = ''] = putImage(registry, 'a', '1', { layers: [noise(5000)] }).layerDigests;
    registry.blobs.set(digest, Buffer.from(registry.blobs.get(digest) ?? '').fill(0x55, 100, 200));
    assert.match(
      await failure(bench.pull(`${registry.host}/a:1`)),
      /^unable to pull image: .*blob has digest \S+ expected sha256:\w+; read again: .*\(mirror, .*ECONNREFUSED/,
    );
  });

  it('falls back, and lists every endpoint with its answer when all fail', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({
      toml: (host) =>
        `[[registry]]\nlocation = "${host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${mirror.host}/m"\ninsecure = true`,
    });
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
    assert.ok(mirror.requests.some(({ line }) => line === 'GET /v2/m/a/manifests/1'));
    const manifest = 'no credentials): 404 not found: MANIFEST_UNKNOWN: manifest unknown';
    assert.equal(
      await failure(bench.pull(`${registry.host}/a:2`)),
      `unable to pull image: pull "${registry.host}/a:2": read manifest 2: http://${mirror.host}/m/a (mirror, ${manifest}; ` +
        `http://${registry.host} (${manifest}`,
    );
  });

  it('of a short name: the error has the name that was asked for, what it stands for, and where that was looked for', async () => {
    await using bench = await openBench({
      image: () => ({ shortNameMode: 'disabled' }),
      toml: (host) =>
        `unqualified-search-registries = ["one.test", "two.test"]\n[aliases]\n"app" = "one.test/team/app"\n` +
        ['one', 'two']
          .map((name) => `[[registry]]\nprefix = "${name}.test"\nlocation = "${host}/${name}"\ninsecure = true\n`)
          .join(''),
    });
    const { host } = bench.registry;
    const unknown = '(no credentials): 404 not found: MANIFEST_UNKNOWN: manifest unknown';
    assert.equal(
      await failure(bench.pull('app:3')),
      `unable to pull image: pull "app:3" as "one.test/team/app:3": read manifest 3: http://${host}/one/team/app ${unknown}`,
    );
    assert.equal(
      await failure(bench.pull('other')),
      `unable to pull image: pull "other" as "one.test/other:latest": read manifest latest: http://${host}/one/other ${unknown}; ` +
        `as "two.test/other:latest": read manifest latest: http://${host}/two/other ${unknown}`,
    );
    await bench.registry[Symbol.asyncDispose]();
    const text = await failure(bench.pull('one.test/gone'));
    assert.match(
      text,
      /^RegistryUnavailable: pull "one\.test\/gone:latest": read manifest latest: https:\/\/\S+\/one\/gone \(/,
    );
  });

  it('that are dead do not make a registry unavailable that says no, and the other way round', async () => {
    const dead = await startFakeRegistry();
    await dead[Symbol.asyncDispose]();
    await using empty = await startFakeRegistry();
    const rule = (name: string, mirror: string, location: string) =>
      `[[registry]]\nprefix = "${name}.test"\nlocation = "${location}"\ninsecure = true\n` +
      `[[registry.mirror]]\nlocation = "${mirror}"\ninsecure = true\n`;
    await using bench = await openBench({
      toml: () => rule('no', dead.host, empty.host) + rule('away', empty.host, dead.host),
    });
    assert.match(await failure(bench.pull('no.test/a:1')), /^unable to pull image: .*ECONNREFUSED.*404 not found/);
    assert.match(await failure(bench.pull('away.test/a:1')), /^RegistryUnavailable: .*404 not found.*ECONNREFUSED/);
  });

  it('that fail are told in the log once in a pull, once for each pause of a dead one, and a failed pull with its cause', async () => {
    await using mirror = await startFakeRegistry();
    const dead = await startFakeRegistry();
    await dead[Symbol.asyncDispose]();
    const lines: string[] = [];
    const log = new Logger({ level: 'warn', filter: undefined, format: 'text', write: (line) => lines.push(line) });
    const told = () => lines.splice(0).map((line) => /msg="(.*)"$/m.exec(line)?.[1] ?? line);
    const place = (host: string) => `[[registry.mirror]]\nlocation = "${host}"\ninsecure = true\n`;
    await using bench = await openBench({
      log,
      toml: (host) => `[[registry]]\nlocation = "${host}"\ninsecure = true\n${place(dead.host)}${place(mirror.host)}`,
    });
    const { registry } = bench;
    for (const tag of ['1', '2', '3'])
      putImage(registry, 'a', tag, { layers: [noise(500 + Number(tag)), noise(5000)] });
    await bench.pull(`${registry.host}/a:1`);
    const [line, ...others] = told();
    assert.match(
      line ?? '',
      new RegExp(
        `Registry \\S+${dead.host} \\(mirror, .*\\) was passed over: not tried again for 10 s after: .*ECONNREFUSED`,
      ),
    );
    assert.deepEqual(others, [], 'neither for each layer nor for the mirror that does not have it');

    putImage(mirror, 'a', '2', { layers: [noise(502), noise(5000)] });
    mirror.handle = (request, response) => {
      if (request.url?.includes('/blobs/') !== true) return false;
      sendError(response, 403, 'DENIED', 'no blobs today');
      return true;
    };
    await bench.pull(`${registry.host}/a:2`);
    const refused = told();
    assert.equal(refused.length, 1, refused.join('\n'));
    assert.match(
      refused[0] ?? '',
      new RegExp(`${mirror.host} \\(mirror, .*passed over: 403 forbidden: DENIED: no blobs today`),
    );

    const text = await failure(
      bench.pull(`${registry.host}/a:9`, { credentials: { username: 'u', password: 'secret' } }),
    );
    const failed = told();
    assert.equal(failed.length, 1, failed.join('\n'));
    assert.equal(failed[0], JSON.stringify(`Pull of image ${registry.host}/a:9 failed: ${text}`).slice(1, -1));
    assert.doesNotMatch(failed[0] ?? '', /secret/);
  });

  it('remembers a dead mirror across pulls', async () => {
    const dead = await startFakeRegistry();
    await dead[Symbol.asyncDispose]();
    await using bench = await openBench({
      toml: (host) =>
        `[[registry]]\nlocation = "${host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${dead.host}"\ninsecure = true`,
    });
    const { registry } = bench;
    putImage(registry, 'a', '1');
    await bench.pull(`${registry.host}/a:1`);
    const text = await failure(bench.pull(`${registry.host}/a:2`));
    assert.match(text, /\(mirror, not asked\): not tried again for \d+ s after: connect ECONNREFUSED/);
  });

  it('reads the rest of a blob from the next place when a mirror dies inside it', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({
      toml: (host) =>
        `[[registry]]\nlocation = "${host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${mirror.host}"\ninsecure = true`,
    });
    const { registry } = bench;
    const content = [noise(100_000)];
    const image = putImage(registry, 'a', '1', { layers: content });
    putImage(mirror, 'a', '1', { layers: content });
    const [digest = ''] = image.layerDigests;
    mirror.handle = (request, response) => {
      if (request.url?.endsWith(digest) !== true) return false;
      if (request.headers.range !== undefined) sendError(response, 404, 'BLOB_UNKNOWN', 'gone');
      else
        response
          .writeHead(200)
          .write(mirror.blobs.get(digest)?.subarray(0, 1000) ?? '', () => setTimeout(() => response.destroy(), 20));
      return true;
    };
    assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
    assert.deepEqual(
      registry.requests.filter(({ line }) => line.includes(digest)).map(({ range }) => range),
      ['bytes=1000-'],
    );
  });
});
