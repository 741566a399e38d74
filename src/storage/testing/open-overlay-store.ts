import { silentLog } from '../../base/log.ts';
import { openStore } from '../open-store.ts';
import type { Store } from '../store.ts';

/** A real store that podman can share. */
export function openOverlayStore(graphRoot: string, runRoot: string): Promise<Store> {
  const options = ['overlay.skip_mount_home=true'];
  return openStore({ graphRoot, runRoot, imageStore: '', driver: 'overlay', options, log: silentLog });
}
