import type { Draft } from './draft.ts';
import type { Mount } from './oci.ts';

/** Of every process, unless image or request know better. */
export const baseEnvironment: readonly string[] = [
  'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  'TERM=xterm',
];

/** What every spec starts from: namespaces, file systems and a rule that denies all devices. */
export function baseSpec(ociVersion: string): Draft {
  return {
    ociVersion,
    process: {
      user: { uid: 0, gid: 0 },
      args: [],
      env: [...baseEnvironment],
      cwd: '/',
    },
    root: { path: 'rootfs' },
    mounts: templateMounts(),
    annotations: {},
    linux: { resources: { devices: [{ allow: false, access: 'rwm' }] }, namespaces: [] },
  };
}

/** The kernel's file systems, in mount order. */
export function templateMounts(): Mount[] {
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  ];
}
