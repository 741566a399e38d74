import { resolve } from 'node:path';

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

export function storePaths(options: {
  graphRoot: string;
  runRoot: string;
  imageStore: string;
  driver: string;
}): StorePaths {
  // Symbolic links stay: every tool that shares the store must name the same mount point.
  const graphRoot = resolve(options.graphRoot);
  const runRoot = resolve(options.runRoot);
  const imageRoot = options.imageStore === '' ? graphRoot : resolve(options.imageStore);
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

export function tarSplitPath(layersFolder: string, layerId: string): string {
  return `${layersFolder}/${layerId}.tar-split.gz`;
}

/** Of the images whose data is in this folder. */
export function imagesIndex(imagesFolder: string): string {
  return `${imagesFolder}/images.json`;
}
