/** Differences from the recordings that are meant; `place` is matched against `FILE PATH: recorded ..., now ...`. */
export const meantDifferences: readonly { readonly place: RegExp; readonly reason: string }[] = [
  {
    place: /: recorded "registry.k8s.io\/pause:3.10", now "registry.k8s.io\/pause:3.10.1"/,
    reason: 'the recording was made with an older pause_image',
  },
  {
    place: /state\.json \/ociVersion: /,
    reason:
      'the runtime is not asked for its state, which costs a process; the version is that of the spec it was given',
  },
  {
    place: /cri\.inspect\.json \/info\/(checkpointedAt|restored): .*now absent/,
    reason: 'CRI-O shows these only where it can make checkpoints; crio-ts cannot yet',
  },
  { place: /\/mounts\/\d+\/mountOptions: recorded absent, now \[\]/, reason: 'a field of a newer CRI protocol' },
  {
    place: /\/stopSignal: recorded "RUNTIME_DEFAULT", now "SIGNAL_RUNTIME_DEFAULT"/,
    reason: 'the newer CRI protocol renamed the values; their numbers are the same',
  },
  {
    place: /container\.config\.json \/process\/env: recorded .*"PATH=[^"]*".*"PATH=/,
    reason: 'every variable is named once; CRI-O appends a second PATH, and the last one wins',
  },
  {
    place: /\/linux\/resources\/pids: recorded \{"limit":-1\}, now absent/,
    reason: 'no limit is the same as the limit -1',
  },
  {
    place: /viarunc\/pod\.config\.json .*RuntimeHandler: recorded "", now "runc"/,
    reason: 'the handler that was asked for is kept, so a restart with another default_runtime still finds it',
  },
  {
    place: /tree\.txt missing: l 777 0:0 \/run\/crio\/<sharedpid container> -> /,
    reason: 'conmon 2.1.7 and later takes the link away when the container, here an ended one, has ended',
  },
];
