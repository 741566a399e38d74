import { CrioError } from '../base/errors.ts';

/** A blob of an artifact that has a name. */
export interface ArtifactFile {
  /** The file on the host. */
  readonly path: string;
  /** Relative, checked to stay below. */
  readonly title: string;
}

export interface ArtifactBind {
  readonly source: string;
  readonly destination: string;
}

/**
 * Where each file of an artifact appears below `containerPath`. A sub path chooses the files below it and is taken off
 * their titles; one that is a file's whole title is that file itself. Pure.
 */
export function planArtifactBinds(
  files: readonly ArtifactFile[],
  wanted: { readonly image: string; readonly containerPath: string; readonly subPath: string },
): readonly ArtifactBind[] {
  const subPath = wanted.subPath.split('/').filter((part) => part !== '' && part !== '.');
  const chosen = files.flatMap(({ path, title }) => {
    const rest = below(subPath, title.split('/'));
    return rest === undefined
      ? []
      : [{ source: path, destination: [trimmed(wanted.containerPath), ...rest].join('/') }];
  });
  if (chosen.length === 0 && subPath.length > 0) {
    throw new CrioError(
      'not-found',
      `sub path "${wanted.subPath}" does not exist in OCI artifact volume "${wanted.image}"`,
    );
  }
  refuseConflicts(chosen, wanted.image);
  return chosen;
}

function below(prefix: readonly string[], parts: readonly string[]): readonly string[] | undefined {
  return prefix.every((part, index) => part === parts[index]) ? parts.slice(prefix.length) : undefined;
}

function trimmed(path: string): string {
  return path.replace(/\/+$/, '');
}

/** Two blobs of one name would hide each other, and a file cannot be a folder too. */
function refuseConflicts(binds: readonly ArtifactBind[], image: string): void {
  const all = new Set<string>();
  for (const { destination } of binds) {
    if (all.has(destination)) throw new CrioError('invalid', `OCI artifact "${image}" has "${destination}" twice`);
    all.add(destination);
  }
  for (const { destination } of binds) {
    for (let at = destination.lastIndexOf('/'); at > 0; at = destination.lastIndexOf('/', at - 1)) {
      const above = destination.slice(0, at);
      if (all.has(above))
        throw new CrioError('invalid', `OCI artifact "${image}" has "${above}" as a file and as a folder`);
    }
  }
}
