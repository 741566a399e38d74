import { isAbsolute, resolve } from 'node:path';
import { CrioError } from '../base/errors.ts';

/** Where everything of a store lies (containers/storage layout). `D` is the driver's name, the prefix of all folders. */
export interface StorePaths {
  readonly graphRoot: string;
  readonly runRoot: string;
  /** Root of image records and image layers: the image store when one is set, else the graph root. */
  readonly imageRoot: string;
  readonly driver: string;
  /** `<graphroot>/D-layers`: indexes, tar-split files and big data of all layers, also of those in an image store. */
  readonly layers: string;
  readonly containers: string;
  readonly images: string;
  /** Where records of images are, and their data: `images`, then that of the graph root when it is another one. */
  readonly imageFolders: readonly string[];
  readonly runLayers: string;
  readonly runContainers: string;
}

/** Throws `invalid` for a root that is not absolute. */
export function storePaths(options: {
  graphRoot: string;
  runRoot: string;
  imageStore: string;
  driver: string;
}): StorePaths {
  // Symbolic links stay: every tool that shares the store must name the same mount point.
  const graphRoot = absolute('root', options.graphRoot);
  const runRoot = absolute('runroot', options.runRoot);
  const imageRoot = options.imageStore === '' ? graphRoot : absolute('imagestore', options.imageStore);
  const { driver } = options;
  const images = `${imageRoot}/${driver}-images`;
  return {
    graphRoot,
    runRoot,
    imageRoot,
    driver,
    layers: `${graphRoot}/${driver}-layers`,
    containers: `${graphRoot}/${driver}-containers`,
    images,
    imageFolders: [...new Set([images, `${graphRoot}/${driver}-images`])],
    runLayers: `${runRoot}/${driver}-layers`,
    runContainers: `${runRoot}/${driver}-containers`,
  };
}

/** A path that depends on the working directory would be another store for each program. */
function absolute(name: string, path: string): string {
  if (!isAbsolute(path)) throw new CrioError('invalid', `${name} "${path}" is not an absolute path`);
  return resolve(path);
}

export function tarSplitPath(layersFolder: string, layerId: string): string {
  return `${layersFolder}/${layerId}.tar-split.gz`;
}

/** Of the images whose data is in this folder. */
export function imagesIndex(imagesFolder: string): string {
  return `${imagesFolder}/images.json`;
}
