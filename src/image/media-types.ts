/** Media types of manifests and configs, OCI image spec and Docker registry. */
export const mediaTypes = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerSchema1: 'application/vnd.docker.distribution.manifest.v1+json',
  dockerSchema1Signed: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
} as const;

/** What a request for a manifest accepts, best first. */
export const acceptedManifests = [
  mediaTypes.ociManifest,
  mediaTypes.dockerManifest,
  mediaTypes.ociIndex,
  mediaTypes.dockerList,
  mediaTypes.dockerSchema1Signed,
  mediaTypes.dockerSchema1,
].join(', ');
