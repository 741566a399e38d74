/** What the bundler puts in; undefined when the sources run as they are. */
declare const __CRIO_BUILD__: BuildInfo | undefined;

export interface BuildInfo {
  /** Full hash, or `unknown` */
  readonly commit: string;
  /** RFC 3339, or `unknown` */
  readonly commitDate: string;
  readonly treeState: 'clean' | 'dirty' | 'unknown';
  readonly buildDate: string;
  /** `<module> <version> <checksum>` */
  readonly dependencies: readonly string[];
}

/** The release of CRI-O whose place is taken: another major.minor here makes a node wipe its pods and images. */
export const crioVersion = '1.37.0';

/** The number of our own release. */
export const releaseVersion = '0.1.0';

const unknownBuild: BuildInfo = {
  commit: 'unknown',
  commitDate: 'unknown',
  treeState: 'unknown',
  buildDate: '',
  dependencies: [],
};

export const buildInfo: BuildInfo = typeof __CRIO_BUILD__ === 'undefined' ? unknownBuild : __CRIO_BUILD__;

/** `1.37.0+<commit>`: the runtime version of the CRI, and what the version files hold. */
export const runtimeVersion = `${crioVersion}+${buildInfo.commit}`;

/** Name in the CRI Version call. */
export const runtimeName = 'cri-o';
