import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseManifest } from './manifest.ts';
import { mediaTypes } from './media-types.ts';

const { dockerManifest, ociManifest, dockerConfig, ociConfig } = mediaTypes;

describe('parseManifest', () => {
  const cases: readonly (readonly [string, string | undefined, 'image' | 'artifact'])[] = [
    [dockerManifest, dockerConfig, 'image'],
    [dockerManifest, ociConfig, 'image'],
    [dockerManifest, 'application/octet-stream', 'image'],
    [dockerManifest, 'application/json', 'image'],
    [dockerManifest, 'text/html', 'image'],
    [dockerManifest, '', 'image'],
    [dockerManifest, undefined, 'image'],
    [dockerManifest, 'application/vnd.cncf.helm.config.v1+json', 'artifact'],
    [ociManifest, ociConfig, 'image'],
    [ociManifest, 'application/octet-stream', 'artifact'],
    [ociManifest, '', 'artifact'],
  ];
  for (const [mediaType, configType, want] of cases) {
    it(`takes ${mediaType} with a config ${JSON.stringify(configType)} for an ${want}`, () => {
      const config = { mediaType: configType, digest: `sha256:${'a'.repeat(64)}`, size: 1 };
      const data = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers: [] }));
      assert.equal(parseManifest(data, mediaType).kind, want);
    });
  }
});
