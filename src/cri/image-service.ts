import type { MessageInitShape } from '@bufbuild/protobuf';
import { CrioError } from '../base/errors.ts';
import type { Credentials, Image, Images } from '../image/images.ts';
import { fromMap } from './checked.ts';
import { inChunks } from './chunks.ts';
import type { ServiceHandlers } from './dispatch.ts';
import type * as cri from './gen/api_pb.ts';
import type { ImageSchema, ImageService } from './gen/api_pb.ts';

export interface ImageServiceDeps {
  readonly images: Images;
  /** Path of the folder that stands for the file system of images, and the one of containers (cri-behaviour 1, row 43). */
  readonly mountPoints: { readonly images: string; readonly containers: string };
  /** What writable layers hold, where they have a root of their own (`imagestore`); else images and containers are one. */
  readonly containerUsage?: (() => { readonly usedBytes: number; readonly inodesUsed: number }) | undefined;
}

/** CRI's ImageService: messages to calls of the image feature and back. */
export function createImageService({
  images,
  mountPoints,
  containerUsage,
}: ImageServiceDeps): ServiceHandlers<typeof ImageService> {
  const list = async (filter: cri.ImageFilter | undefined): Promise<readonly Image[]> => {
    const name = filter?.image?.image ?? '';
    if (name === '') return images.list();
    const image = await images.find(name);
    return image === undefined ? [] : [image];
  };
  return {
    listImages: async (_call, { filter }) => ({ images: (await list(filter)).map(toMessage) }),
    async *streamImages(_call, { filter }) {
      for (const chunk of inChunks(await list(filter))) yield { images: chunk.map(toMessage) };
    },
    async imageStatus(_call, { image: spec, verbose }) {
      const image = await images.find(nameOf(spec));
      if (image === undefined) return {};
      return {
        image: toMessage(image),
        info: verbose && image.artifact === undefined ? { info: verboseInfo(image) } : {},
      };
    },
    async pullImage(call, { image: spec, auth, sandboxConfig }) {
      const image = await images.pull(call, {
        reference: nameOf(spec),
        credentials: toCredentials(auth),
        namespace: sandboxConfig?.metadata?.namespace ?? '',
        cgroupParent: sandboxConfig?.linux?.cgroupParent ?? '',
      });
      return { imageRef: image.id };
    },
    async removeImage(call, { image: spec }) {
      await images.remove(call, nameOf(spec));
      return {};
    },
    async imageFsInfo() {
      const used = await images.usage();
      const { inGraphRoot } = used;
      const written = containerUsage?.();
      const usage = (mountpoint: string, { usedBytes, inodesUsed }: Pick<typeof used, 'usedBytes' | 'inodesUsed'>) => ({
        timestamp: used.timestampNs,
        fsId: { mountpoint },
        usedBytes: { value: BigInt(usedBytes) },
        inodesUsed: { value: BigInt(inodesUsed) },
      });
      return {
        imageFilesystems: [usage(mountPoints.images, used)],
        // Kubelet reads the first entry of each alone, and takes it for all that its disk holds of ours.
        containerFilesystems: [
          usage(
            mountPoints.containers,
            written === undefined
              ? used
              : {
                  usedBytes: written.usedBytes + inGraphRoot.usedBytes,
                  inodesUsed: written.inodesUsed + inGraphRoot.inodesUsed,
                },
          ),
        ],
      };
    },
  };
}

function nameOf(spec: cri.ImageSpec | undefined): string {
  const name = spec?.image ?? '';
  if (name === '') throw new CrioError('invalid', 'no image specified');
  return name;
}

function toMessage(image: Image): MessageInitShape<typeof ImageSchema> {
  const user = image.config.user.split(':')[0] ?? '';
  const uid =
    /^\d+$/.test(user) && Number.isSafeInteger(Number(user)) ? { uid: { value: BigInt(user) } } : { username: user };
  return {
    id: image.id,
    repoTags: [...image.repoTags],
    repoDigests: [...image.repoDigests],
    size: BigInt(image.sizeBytes),
    spec: { image: '', annotations: fromMap(image.annotations) },
    pinned: image.pinned,
    ...uid,
  };
}

function verboseInfo(image: Image): string {
  const { labels, document } = image.config;
  return JSON.stringify({ ...(labels.size === 0 ? {} : { labels: fromMap(labels) }), imageSpec: document });
}

/** `auth` is base64 of `user:password`; explicit fields win. All empty means: none given. */
function toCredentials(auth: cri.AuthConfig | undefined): Credentials | undefined {
  if (auth === undefined) return undefined;
  const { identityToken, registryToken, serverAddress } = auth;
  const [username, password] = auth.username === '' ? splitBasic(auth.auth) : [auth.username, auth.password];
  if (username === '' && password === '' && identityToken === '' && registryToken === '') return undefined;
  return { username, password, identityToken, registryToken, serverAddress };
}

function splitBasic(encoded: string): readonly [string, string] {
  if (encoded === '') return ['', ''];
  const text = Buffer.from(encoded, 'base64').toString();
  const colon = text.indexOf(':');
  if (colon < 0) throw new CrioError('invalid', 'auth: not base64 of "user:password"');
  return [text.slice(0, colon), text.slice(colon + 1).replace(/\0+$/, '')];
}
