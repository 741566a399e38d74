import { busybox } from '../client/pods.ts';

/** Where the pods find and leave host files. */
export const hostFolder = '/srv/pods';
export const hostPort = 18_080;
export const hostNetworkPort = 18_081;

/** The parts of core/v1's PodSpec that are written by hand below; the kubelet refuses what it does not know. */
export type PodSpec = { readonly containers: readonly object[] } & Readonly<Record<string, unknown>>;

const shell = (name: string, script: string, more: object = {}): object => ({
  name,
  image: busybox,
  imagePullPolicy: 'IfNotPresent',
  command: ['sh', '-ec', script],
  ...more,
});

/** Ends at once on TERM, which a process that is the first of its namespace must ask for. */
const forever = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";
const exec = (script: string): object => ({ exec: { command: ['sh', '-ec', script] } });
/** On a busy machine a command takes seconds. */
const often = { periodSeconds: 1, timeoutSeconds: 30 };
const mount = (name: string, mountPath: string, more: object = {}): object => ({ name, mountPath, ...more });
const hostPath = (name: string, path: string, type: string): object => ({ name, hostPath: { path, type } });
const emptyDir = (name: string, more: object = {}): object => ({ name, emptyDir: more });

/** All pods that the kubelet is given, by name. */
export const pods: Readonly<Record<string, PodSpec>> = {
  web: webPod(),
  probes: probesPod(),
  hooks: hooksPod(),
  volumes: volumesPod(),
  crash: {
    containers: [
      shell('main', 'echo why >/dev/termination-log; exit 3', {
        terminationMessagePath: '/dev/termination-log',
      }),
    ],
  },
  oom: {
    restartPolicy: 'Never',
    containers: [
      shell('main', 'echo eating; exec tail /dev/zero', {
        resources: { limits: { memory: '24Mi' }, requests: { cpu: '10m' } },
      }),
    ],
  },
  job: {
    restartPolicy: 'OnFailure',
    volumes: [emptyDir('state')],
    containers: [
      shell('main', 'test -e /state/second && exit 0; touch /state/second; exit 7', {
        volumeMounts: [mount('state', '/state')],
      }),
    ],
  },
  hostnet: {
    hostNetwork: true,
    containers: [
      shell('main', `mkdir /www; hostname >/www/name; exec httpd -f -p ${hostNetworkPort} -h /www`, {
        ports: [{ containerPort: hostNetworkPort, hostPort: hostNetworkPort }],
        readinessProbe: { httpGet: { path: '/name', port: hostNetworkPort, host: '127.0.0.1' }, ...often },
      }),
    ],
    terminationGracePeriodSeconds: 1,
  },
  logger: {
    terminationGracePeriodSeconds: 1,
    containers: [
      shell(
        'main',
        // About 8 KB a second in the file. Many lines for each process: a busy machine starts few.
        'i=0; while :; do i=$((i + 1)); echo "line $i of a log that is rotated"; [ $((i % 20)) != 0 ] || usleep 200000; done',
      ),
    ],
  },
  limits: limitsPod(),
  terminal: {
    terminationGracePeriodSeconds: 1,
    containers: [
      { ...shell('cat', "trap 'exit 0' TERM; cat; exec sleep 10000"), stdin: true },
      { ...shell('shell', 'exec sh -i'), stdin: true, tty: true },
    ],
  },
  shared: {
    shareProcessNamespace: true,
    terminationGracePeriodSeconds: 1,
    securityContext: { runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000, seccompProfile: { type: 'RuntimeDefault' } },
    volumes: [emptyDir('data')],
    containers: [
      shell('one', 'exec sleep 54321', {
        volumeMounts: [mount('data', '/data')],
        securityContext: {
          readOnlyRootFilesystem: true,
          allowPrivilegeEscalation: false,
          capabilities: { drop: ['ALL'] },
        },
      }),
      shell('two', forever),
    ],
  },
  broken: { containers: [shell('main', 'exit 0', { image: 'registry.k8s.io/there-is-none:1' })] },
};

/** Init containers, a sidecar, HTTP and TCP probes, a host port, an image file of some size. */
function webPod(): PodSpec {
  const shared = { volumeMounts: [mount('www', '/www')] };
  return {
    terminationGracePeriodSeconds: 5,
    volumes: [emptyDir('www')],
    initContainers: [
      shell('first', 'echo first >/www/order', shared),
      shell('helper', `echo helper >>/www/order; touch /www/helper; ${forever}`, {
        ...shared,
        restartPolicy: 'Always',
        startupProbe: { ...exec('test -e /www/helper'), ...often },
      }),
      shell('last', 'echo last >>/www/order; dd if=/dev/urandom of=/www/big bs=64k count=64 2>&1', shared),
    ],
    containers: [
      shell('server', 'echo server >>/www/order; echo serving; exec httpd -f -v -p 80 -h /www', {
        ...shared,
        ports: [{ containerPort: 80, hostPort }],
        startupProbe: { tcpSocket: { port: 80 }, ...often },
        readinessProbe: { httpGet: { path: '/order', port: 80 }, ...often },
        livenessProbe: { tcpSocket: { port: 80 }, ...often },
      }),
    ],
  };
}

/** A liveness probe that fails once, a readiness probe that waits for a file, and one that takes too long. */
function probesPod(): PodSpec {
  return {
    terminationGracePeriodSeconds: 1,
    volumes: [emptyDir('state')],
    containers: [
      shell(
        'lively',
        `test -e /state/again && echo second run || { echo first run; touch /state/again; : >/tmp/dead; }; ${forever}`,
        {
          volumeMounts: [mount('state', '/state')],
          livenessProbe: { ...exec('! test -e /tmp/dead'), ...often, failureThreshold: 1 },
        },
      ),
      shell('ready', `sleep 2; touch /tmp/ready; ${forever}`, {
        readinessProbe: { ...exec('test -e /tmp/ready'), ...often },
      }),
      shell('slow', forever, {
        readinessProbe: { ...exec('sleep 4242'), periodSeconds: 1, timeoutSeconds: 1 },
      }),
    ],
  };
}

/** Each step leaves a line in a host file. */
function hooksPod(): PodSpec {
  const note = (text: string): string => `echo ${text} >>/host/hooks`;
  return {
    terminationGracePeriodSeconds: 20,
    volumes: [hostPath('host', hostFolder, 'Directory')],
    containers: [
      shell('main', `trap '${note('term')}; exit 0' TERM; while :; do sleep 0.2; done`, {
        volumeMounts: [mount('host', '/host')],
        lifecycle: {
          postStart: exec(`sleep 0.5; ${note('postStart')}`),
          preStop: exec(`${note('preStop')}; sleep 0.5`),
        },
      }),
    ],
  };
}

/** Folders and files of the host, of the kubelet's making, and what is mounted below them later. */
function volumesPod(): PodSpec {
  return {
    hostname: 'named',
    terminationGracePeriodSeconds: 1,
    hostAliases: [{ ip: '192.0.2.77', hostnames: ['alias.test'] }],
    volumes: [
      hostPath('config', `${hostFolder}/config`, 'Directory'),
      hostPath('late', `${hostFolder}/late`, 'DirectoryOrCreate'),
      hostPath('made', `${hostFolder}/made/file`, 'FileOrCreate'),
      emptyDir('memory', { medium: 'Memory', sizeLimit: '8Mi' }),
      emptyDir('disk'),
      {
        name: 'about',
        downwardAPI: { items: [{ path: 'name', fieldRef: { fieldPath: 'metadata.name' } }] },
      },
    ],
    containers: [
      shell('main', `dd if=/dev/zero of=/layer bs=1k count=300 2>/dev/null; ${forever}`, {
        env: [
          { name: 'POD_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
          { name: 'CPU', valueFrom: { resourceFieldRef: { resource: 'limits.cpu' } } },
        ],
        volumeMounts: [
          mount('config', '/etc/app', { readOnly: true }),
          mount('config', '/etc/single', { subPath: 'key', readOnly: true }),
          mount('late', '/late', { mountPropagation: 'HostToContainer' }),
          mount('made', '/made'),
          mount('memory', '/memory'),
          mount('disk', '/disk'),
          mount('about', '/about'),
        ],
      }),
    ],
  };
}

/** One container of each kind of limit; the pod is Guaranteed. */
function limitsPod(): PodSpec {
  const resources = { cpu: '250m', memory: '48Mi' };
  return {
    terminationGracePeriodSeconds: 1,
    containers: [
      shell('busy', "trap 'exit 0' TERM; while :; do :; done", {
        resources: { limits: resources, requests: resources },
      }),
      shell('memory', `dd if=/dev/zero of=/dev/shm/held bs=1M count=8 2>/dev/null; ${forever}`, {
        resources: { limits: resources, requests: resources },
      }),
    ],
  };
}
