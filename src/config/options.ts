import { absent, bool, choice, duration, int, string, stringMap, strings, uint } from './option.ts';
import type { Option, Options } from './option.ts';
import type { Handler, Workload, WorkloadResources } from './handler.ts';

/**
 * The one table of all options. Parsing, merging, validation of types, `crio config`, `--help`, the manual, completion
 * and the type `Config` are derived from it; adding an option is adding an entry.
 * The order is that of `crio config`. Facts: TOML key, flag, environment variable, type, default.
 */

const crio = {
  root: string('/var/lib/containers/storage', 'Graph root: where images, layers and container metadata are kept.', {
    flag: 'root',
    aliases: ['r'],
    env: 'CONTAINER_ROOT',
  }),
  runroot: string(
    '/run/containers/storage',
    'Run root: volatile state, such as bundles and mount counts. Should be on tmpfs.',
    {
      flag: 'runroot',
      env: 'CONTAINER_RUNROOT',
    },
  ),
  imagestore: string(
    '',
    'Separate store for images, apart from that of containers. Empty: images are kept in the graph root.',
    {
      flag: 'imagestore',
      env: 'CONTAINER_IMAGESTORE',
    },
  ),
  storage_driver: string('', 'Storage driver, "overlay" or "vfs". Empty: taken from storage.conf, else "overlay".', {
    flag: 'storage-driver',
    aliases: ['s'],
    env: 'CONTAINER_STORAGE_DRIVER',
  }),
  storage_option: strings(absent, 'Options of the storage driver, each as "driver.key=value".', {
    flag: 'storage-opt',
    env: 'CONTAINER_STORAGE_OPT',
  }),
  log_dir: string(
    '/var/log/crio/pods',
    'Parent of the log folders of pods for which the request names none. Must be an absolute path.',
    {
      flag: 'log-dir',
      env: 'CONTAINER_LOG_DIR',
    },
  ),
  version_file: string(
    '/var/run/crio/version',
    'File on tmpfs with the version that ran last. When it is missing or of another minor version, containers are wiped at start. Empty disables it.',
    {
      flag: 'version-file',
      env: 'CONTAINER_VERSION_FILE',
    },
  ),
  version_file_persist: string(
    '',
    'File on disk with the version that ran last. When it is missing or of another minor version, images are wiped as well. Empty disables it.',
    {
      flag: 'version-file-persist',
      env: 'CONTAINER_VERSION_FILE_PERSIST',
    },
  ),
  internal_wipe: bool(true, 'Wipe containers and images at start when a version file asks for it. Deprecated.', {
    flag: 'internal-wipe',
    env: 'CONTAINER_INTERNAL_WIPE',
    deprecated: true,
  }),
  internal_repair: bool(true, 'Check and repair the storage at start after an unclean stop.', {
    flag: 'internal-repair',
    env: 'CONTAINER_INTERNAL_REPAIR',
    implemented: false,
  }),
  clean_shutdown_file: string(
    '/var/lib/crio/clean.shutdown',
    'File that is written on a clean stop and removed at start. Missing at the next start: the storage is checked. Empty disables it.',
    {
      flag: 'clean-shutdown-file',
      env: 'CONTAINER_CLEAN_SHUTDOWN_FILE',
    },
  ),
} satisfies Options;

const api = {
  listen: string('/var/run/crio/crio.sock', 'Unix socket on which gRPC and the HTTP status API are served.', {
    flag: 'listen',
    env: 'CONTAINER_LISTEN',
  }),
  stream_address: string('127.0.0.1', 'Address of the server for exec, attach and port-forward.', {
    flag: 'stream-address',
    env: 'CONTAINER_STREAM_ADDRESS',
  }),
  stream_port: string('0', 'Port of the server for exec, attach and port-forward. "0" takes a free one.', {
    flag: 'stream-port',
    env: 'CONTAINER_STREAM_PORT',
  }),
  stream_enable_tls: bool(false, 'Serve exec, attach and port-forward over TLS. Needs a certificate and a key.', {
    flag: 'stream-enable-tls',
    env: 'CONTAINER_ENABLE_TLS',
  }),
  stream_idle_timeout: string('', 'Time after which an idle stream is closed, such as "30m". Empty: 4 hours.', {
    flag: 'stream-idle-timeout',
    env: 'STREAM_IDLE_TIMEOUT',
  }),
  stream_tls_cert: string('', 'Certificate of the stream server. A changed file is picked up.', {
    flag: 'stream-tls-cert',
    env: 'CONTAINER_TLS_CERT',
  }),
  stream_tls_key: string('', 'Private key of the stream server. A changed file is picked up.', {
    flag: 'stream-tls-key',
    env: 'CONTAINER_TLS_KEY',
  }),
  stream_tls_ca: string('', 'Authority that signs client certificates. When it is set, clients must present one.', {
    flag: 'stream-tls-ca',
    env: 'CONTAINER_TLS_CA',
  }),
  tls_min_version: string(
    'VersionTLS12',
    'Lowest TLS version of the stream and metrics servers, "VersionTLS12" or "VersionTLS13".',
    {
      flag: 'tls-min-version',
      env: 'CONTAINER_TLS_MIN_VERSION',
      goName: 'TLSMinVersion',
    },
  ),
  tls_cipher_suites: strings(
    absent,
    'Cipher suites of the stream and metrics servers by Go name. Ignored when the lowest version is 1.3.',
    {
      flag: 'tls-cipher-suites',
      env: 'CONTAINER_TLS_CIPHER_SUITES',
      goName: 'TLSCipherSuites',
    },
  ),
  grpc_max_send_msg_size: int(83886080, 'Largest gRPC message sent, in bytes. Zero or less: the default.', {
    flag: 'grpc-max-send-msg-size',
    env: 'CONTAINER_GRPC_MAX_SEND_MSG_SIZE',
    goName: 'GRPCMaxSendMsgSize',
  }),
  grpc_max_recv_msg_size: int(83886080, 'Largest gRPC message accepted, in bytes. Zero or less: the default.', {
    flag: 'grpc-max-recv-msg-size',
    env: 'CONTAINER_GRPC_MAX_RECV_MSG_SIZE',
    goName: 'GRPCMaxRecvMsgSize',
  }),
} satisfies Options;

const runtime = {
  default_ulimits: strings(absent, 'Resource limits of every container, each as "name=soft:hard". -1 is no limit.', {
    flag: 'default-ulimits',
    env: 'CONTAINER_DEFAULT_ULIMITS',
  }),
  no_pivot: bool(false, 'Ask the OCI runtime not to use pivot_root.', {
    flag: 'no-pivot',
    env: 'CONTAINER_NO_PIVOT',
  }),
  decryption_keys_path: string('/etc/crio/keys/', 'Folder of the private keys for encrypted images.', {
    flag: 'decryption-keys-path',
    reloadable: true,
  }),
  additional_artifact_stores: strings(
    absent,
    'Read-only stores of OCI artifacts, searched before the main one. Absolute paths of folders with an "artifacts" folder in it.',
    {
      flag: 'additional-artifact-stores',
    },
  ),
  conmon: string('', 'Path of the monitor. Deprecated: use monitor_path of the handler.', {
    flag: 'conmon',
    env: 'CONTAINER_CONMON',
    deprecated: true,
  }),
  conmon_cgroup: string('', 'Cgroup of the monitor. Deprecated: use monitor_cgroup of the handler.', {
    flag: 'conmon-cgroup',
    env: 'CONTAINER_CONMON_CGROUP',
    deprecated: true,
  }),
  conmon_env: strings(absent, 'Environment of the monitor. Deprecated: use monitor_env of the handler.', {
    flag: 'conmon-env',
    env: 'CONTAINER_CONMON_ENV',
    deprecated: true,
  }),
  default_env: strings(
    absent,
    'Environment variables for every container, each as "NAME=value". Those of the request win.',
    {
      flag: 'default-env',
      env: 'CONTAINER_DEFAULT_ENV',
    },
  ),
  min_injected_gomaxprocs: int(
    0,
    'Smallest GOMAXPROCS that is injected into burstable and best-effort containers. 0 injects none.',
    {
      flag: 'min-injected-gomaxprocs',
      env: 'CONTAINER_INJECT_GOMAXPROCS',
      goName: 'MinInjectedGOMAXPROCS',
      implemented: false,
    },
  ),
  selinux: bool(false, 'Label processes and files with SELinux. Default: whether SELinux is enabled on the host.', {
    flag: 'selinux',
    env: 'CONTAINER_SELINUX',
    goName: 'SELinux',
    implemented: false,
  }),
  seccomp_profile: string(
    '',
    'Seccomp profile for containers that ask for RuntimeDefault, a JSON file. Empty or missing: the built-in profile.',
    {
      flag: 'seccomp-profile',
      env: 'CONTAINER_SECCOMP_PROFILE',
      reloadable: true,
    },
  ),
  privileged_seccomp_profile: string('', 'Seccomp profile of privileged containers, a JSON file. Empty: none.', {
    flag: 'privileged-seccomp-profile',
    env: 'CONTAINER_PRIVILEGED_SECCOMP_PROFILE',
    reloadable: true,
  }),
  apparmor_profile: string(
    'crio-default',
    'Name of the AppArmor profile for containers that ask for RuntimeDefault. "crio-default" is generated and loaded, "unconfined" is none, any other must be loaded already.',
    {
      flag: 'apparmor-profile',
      env: 'CONTAINER_APPARMOR_PROFILE',
      goName: 'ApparmorProfile',
      reloadable: true,
    },
  ),
  blockio_config_file: string('', 'File that defines the classes of block I/O.', {
    flag: 'blockio-config-file',
    goName: 'BlockIOConfigFile',
    reloadable: true,
    implemented: false,
  }),
  blockio_reload: bool(false, 'Read the block I/O file again, and look for new devices, at each create.', {
    flag: 'blockio-reload',
    goName: 'BlockIOReload',
    reloadable: true,
    implemented: false,
  }),
  irqbalance_config_file: string('/etc/sysconfig/irqbalance', 'Configuration of irqbalance in which CPUs are banned.', {
    flag: 'irqbalance-config-file',
    goName: 'IrqBalanceConfigFile',
    implemented: false,
  }),
  irqbalance_config_restore_file: string(
    '/etc/sysconfig/orig_irq_banned_cpus',
    'Where the original mask of banned CPUs is kept, to be restored at start. "disable" turns that off.',
    {
      flag: 'irqbalance-config-restore-file',
      goName: 'IrqBalanceConfigRestoreFile',
      implemented: false,
    },
  ),
  rdt_config_file: string('', 'File that defines the classes of Intel RDT.', {
    flag: 'rdt-config-file',
    reloadable: true,
    implemented: false,
  }),
  cgroup_manager: choice(
    'systemd',
    ['systemd', 'cgroupfs'],
    'Who manages cgroups, "systemd" or "cgroupfs". Not set on a host without systemd: cgroupfs.',
    {
      flag: 'cgroup-manager',
      env: 'CONTAINER_CGROUP_MANAGER',
      goName: 'CgroupManagerName',
    },
  ),
  default_capabilities: strings(
    ['CHOWN', 'DAC_OVERRIDE', 'FSETID', 'FOWNER', 'SETGID', 'SETUID', 'SETPCAP', 'NET_BIND_SERVICE', 'KILL'],
    'Capabilities of containers that are not privileged, without the prefix CAP_.',
    { flag: 'default-capabilities', env: 'CONTAINER_DEFAULT_CAPABILITIES' },
  ),
  add_inheritable_capabilities: bool(false, 'Put the capabilities into the inheritable set too.', {
    flag: 'add-inheritable-capabilities',
    env: 'CONTAINER_ADD_INHERITABLE_CAPABILITIES',
  }),
  default_sysctls: strings(
    absent,
    'Sysctls of every pod, each as "key=value". Only kernel.sem, kernel.shm*, kernel.msg*, fs.mqueue.* and net.* are taken, when the pod has a namespace of its own for it.',
    {
      flag: 'default-sysctls',
      env: 'CONTAINER_DEFAULT_SYSCTLS',
    },
  ),
  allowed_devices: strings(
    ['/dev/fuse', '/dev/net/tun'],
    'Devices of the host that the devices annotation may ask for.',
    {
      flag: 'allowed-devices',
      env: 'CONTAINER_ALLOWED_DEVICES',
    },
  ),
  additional_devices: strings(absent, 'Devices given to every container, each as "host[:container][:permissions]".', {
    flag: 'additional-devices',
    env: 'CONTAINER_ADDITIONAL_DEVICES',
  }),
  cdi_spec_dirs: strings(
    ['/etc/cdi', '/var/run/cdi'],
    'Folders with specifications of the Container Device Interface.',
    {
      flag: 'cdi-spec-dirs',
      env: 'CONTAINER_CDI_SPEC_DIRS',
      goName: 'CDISpecDirs',
      reloadable: true,
      implemented: false,
    },
  ),
  device_ownership_from_security_context: bool(false, "Device nodes belong to the container's user and group.", {
    flag: 'device-ownership-from-security-context',
  }),
  hooks_dir: strings(['/usr/share/containers/oci/hooks.d'], 'Folders with OCI hooks. Their content is watched.', {
    flag: 'hooks-dir',
    env: 'CONTAINER_HOOKS_DIR',
    implemented: false,
  }),
  default_mounts_file: string(
    '',
    'File with lines "source:destination" whose content is copied into every container. Empty: /etc/containers/mounts.conf, then /usr/share/containers/mounts.conf.',
    {
      flag: 'default-mounts-file',
      env: 'CONTAINER_DEFAULT_MOUNTS_FILE',
    },
  ),
  pids_limit: int(
    -1,
    'Largest number of processes in a container. Deprecated: kubelet sets it. Zero or less: no limit.',
    {
      flag: 'pids-limit',
      env: 'CONTAINER_PIDS_LIMIT',
      deprecated: true,
    },
  ),
  log_size_max: int(
    -1,
    'Largest size of a container log in bytes, at least 8192. Deprecated: kubelet rotates logs. Negative: no limit.',
    {
      flag: 'log-size-max',
      env: 'CONTAINER_LOG_SIZE_MAX',
      deprecated: true,
    },
  ),
  log_to_journald: bool(false, 'Container logs go to journald as well.', {
    flag: 'log-journald',
    env: 'CONTAINER_LOG_JOURNALD',
  }),
  container_exits_dir: string('/var/run/crio/exits', 'Folder into which the monitor writes exit codes.', {
    flag: 'container-exits-dir',
    env: 'CONTAINER_EXITS_DIR',
  }),
  container_attach_socket_dir: string('/var/run/crio', 'Folder of the attach sockets.', {
    flag: 'container-attach-socket-dir',
    env: 'CONTAINER_ATTACH_SOCKET_DIR',
  }),
  bind_mount_prefix: string('', 'Prefix for the sources of bind mounts, for a daemon that runs in a container.', {
    flag: 'bind-mount-prefix',
    env: 'CONTAINER_BIND_MOUNT_PREFIX',
  }),
  read_only: bool(
    false,
    'Containers that are not privileged get a read-only root, with tmpfs on /run, /tmp and /var/tmp.',
    {
      flag: 'read-only',
      env: 'CONTAINER_READ_ONLY',
    },
  ),
  log_level: string('info', 'Verbosity of the log: fatal, panic, error, warn, info, debug or trace.', {
    flag: 'log-level',
    aliases: ['l'],
    env: 'CONTAINER_LOG_LEVEL',
    reloadable: true,
  }),
  log_filter: string('', 'Regular expression; only messages that match are logged.', {
    flag: 'log-filter',
    env: 'CONTAINER_LOG_FILTER',
    reloadable: true,
  }),
  uid_mappings: string(
    '',
    'User id mappings for all pods, each as "container:host:size". Deprecated: use user namespaces of Kubernetes.',
    {
      flag: 'uid-mappings',
      env: 'CONTAINER_UID_MAPPINGS',
      goName: 'UIDMappings',
      deprecated: true,
      implemented: false,
    },
  ),
  gid_mappings: string(
    '',
    'Group id mappings for all pods, each as "container:host:size". Deprecated: use user namespaces of Kubernetes.',
    {
      flag: 'gid-mappings',
      env: 'CONTAINER_GID_MAPPINGS',
      goName: 'GIDMappings',
      deprecated: true,
      implemented: false,
    },
  ),
  minimum_mappable_uid: int(-1, 'Smallest host user id that a pod may ask to be mapped. Deprecated.', {
    flag: 'minimum-mappable-uid',
    env: 'CONTAINER_MINIMUM_MAPPABLE_UID',
    goName: 'MinimumMappableUID',
    deprecated: true,
    implemented: false,
  }),
  minimum_mappable_gid: int(-1, 'Smallest host group id that a pod may ask to be mapped. Deprecated.', {
    flag: 'minimum-mappable-gid',
    env: 'CONTAINER_MINIMUM_MAPPABLE_GID',
    goName: 'MinimumMappableGID',
    deprecated: true,
    implemented: false,
  }),
  ctr_stop_timeout: int(
    30,
    'Seconds before a container that is being stopped is killed. Values under 30 are raised to 30.',
    {
      flag: 'ctr-stop-timeout',
      env: 'CONTAINER_STOP_TIMEOUT',
    },
  ),
  drop_infra_ctr: bool(true, 'Run no infra container for a pod that does not share its PID namespace.', {
    flag: 'drop-infra-ctr',
    env: 'CONTAINER_DROP_INFRA_CTR',
  }),
  infra_ctr_cpuset: string('', 'CPUs on which infra containers, and all programs that the daemon starts, run.', {
    flag: 'infra-ctr-cpuset',
    env: 'CONTAINER_INFRA_CTR_CPUSET',
    goName: 'InfraCtrCPUSet',
  }),
  shared_cpuset: string('', 'CPUs that guaranteed containers may share when their annotation asks for it.', {
    flag: 'shared-cpuset',
    env: 'CONTAINER_SHARED_CPUSET',
    goName: 'SharedCPUSet',
    implemented: false,
  }),
  namespaces_dir: string('/var/run', 'Parent of the folders in which namespaces of pods are pinned.', {
    flag: 'namespaces-dir',
    env: 'CONTAINER_NAMESPACES_DIR',
  }),
  pinns_path: string('', 'Path of the pinns helper. Namespaces are pinned without it, so it is never started.', {
    flag: 'pinns-path',
    env: 'CONTAINER_PINNS_PATH',
    implemented: false,
  }),
  enable_criu_support: bool(true, 'Support for checkpoint and restore. Deprecated: use container_level_enabled.', {
    flag: 'enable-criu-support',
    env: 'CONTAINER_ENABLE_CRIU_SUPPORT',
    goName: 'EnableCriuSupport',
    deprecated: true,
    implemented: false,
  }),
  enable_pod_events: bool(false, 'Send container events to kubelet.', {
    flag: 'enable-pod-events',
    env: 'ENABLE_POD_EVENTS',
    implemented: false,
  }),
  default_runtime: string('crun', 'Handler of pods that name none. Must be in the table of runtimes. Empty: crun.', {
    flag: 'default-runtime',
    env: 'CONTAINER_DEFAULT_RUNTIME',
    reloadable: true,
  }),
  absent_mount_sources_to_reject: strings(
    absent,
    'Paths on the host that are not created when a mount names them and they are missing; the create fails instead.',
    {
      flag: 'absent-mount-sources-to-reject',
      env: 'CONTAINER_ABSENT_MOUNT_SOURCES_TO_REJECT',
    },
  ),
  hostnetwork_disable_selinux: bool(true, 'Pods on the host network run without SELinux separation.', {
    flag: 'hostnetwork-disable-selinux',
    env: 'CONTAINER_HOSTNETWORK_DISABLE_SELINUX',
    goName: 'HostNetworkDisableSELinux',
    implemented: false,
  }),
  disable_hostport_mapping: bool(false, 'Make no firewall rules for host ports.', {
    flag: 'disable-hostport-mapping',
    env: 'DISABLE_HOSTPORT_MAPPING',
    goName: 'DisableHostPortMapping',
  }),
  timezone: string(
    '',
    'Time zone of containers: an IANA name, or "Local" for that of the host. Empty: the image decides.',
    {
      flag: 'timezone',
      aliases: ['tz'],
      env: 'CONTAINER_TIME_ZONE',
    },
  ),
  separate_pull_cgroup: string('', 'Cgroup in which images are pulled, "pod" or a slice. Needs systemd.', {
    flag: 'separate-pull-cgroup',
    env: 'PULL_IN_A_CGROUP',
    implemented: false,
  }),
  runtimes: {
    type: 'handlers',
    default: new Map<string, Handler>(),
    doc: 'OCI runtimes by handler. The flag takes "name:path:root[:type[:privileged_without_host_devices[:config_path[:container_min_memory]]]]".',
    flag: 'runtimes',
    env: 'CONTAINER_RUNTIMES',
    reloadable: true,
  } satisfies Option<ReadonlyMap<string, Handler>> as Option<ReadonlyMap<string, Handler>>,
  workloads: {
    type: 'workloads',
    default: new Map<string, Workload>(),
    doc: 'Classes of pods, chosen by an annotation, with defaults for their resources.',
    implemented: false,
  } satisfies Option<ReadonlyMap<string, Workload>> as Option<ReadonlyMap<string, Workload>>,
} satisfies Options;

const checkpointRestore = {
  container_level_enabled: choice(
    'checkpoint_restore',
    ['none', 'checkpoint_only', 'checkpoint_restore'],
    'What may be done with checkpoints of containers: "none", "checkpoint_only" or "checkpoint_restore". Becomes "none" where criu is not installed.',
    {
      flag: 'checkpoint-restore-container-level-enabled',
      env: 'CONTAINER_CHECKPOINT_RESTORE_CONTAINER_LEVEL_ENABLED',
      implemented: false,
    },
  ),
} satisfies Options;

const image = {
  default_transport: string('docker://', 'Prefix of image names that have no transport.', {
    flag: 'default-transport',
    env: 'CONTAINER_DEFAULT_TRANSPORT',
    implemented: false,
  }),
  global_auth_file: string('', 'File with the credentials of registries.', {
    flag: 'global-auth-file',
    env: 'CONTAINER_GLOBAL_AUTH_FILE',
  }),
  namespaced_auth_dir: string(
    '/etc/crio/auth',
    'Folder of credentials that kubelet leaves per namespace and image. Must be an absolute path.',
    {
      flag: 'namespaced-auth-dir',
      env: 'CONTAINER_NAMESPACED_AUTH_DIR',
      hidden: true,
      template: 'never',
    },
  ),
  pause_image: string(
    'registry.k8s.io/pause:3.10.1',
    'Image of infra containers. It is never removed by garbage collection.',
    {
      flag: 'pause-image',
      env: 'CONTAINER_PAUSE_IMAGE',
      reloadable: true,
    },
  ),
  pause_image_auth_file: string('', 'File with the credentials for the pause image.', {
    flag: 'pause-image-auth-file',
    env: 'CONTAINER_PAUSE_IMAGE_AUTH_FILE',
    reloadable: true,
  }),
  pause_command: string('/pause', "Command of infra containers. Empty: the image's entry point and command.", {
    flag: 'pause-command',
    env: 'CONTAINER_PAUSE_COMMAND',
    reloadable: true,
  }),
  pinned_images: strings(absent, 'Images that garbage collection keeps: an exact name, "prefix*", or "*keyword*".', {
    flag: 'pinned-images',
    env: 'CONTAINER_PINNED_IMAGES',
    reloadable: true,
  }),
  signature_policy: string('', "Policy of image signatures, a JSON file. Empty: the system's policy.json.", {
    flag: 'signature-policy',
    env: 'CONTAINER_SIGNATURE_POLICY',
    goName: 'SignaturePolicyPath',
  }),
  signature_policy_dir: string(
    '/etc/crio/policies',
    'Folder of policies per namespace, "<namespace>.json". Must be an absolute path.',
    {
      flag: 'signature-policy-dir',
      env: 'CONTAINER_SIGNATURE_POLICY_DIR',
    },
  ),
  insecure_registries: strings(absent, 'Has no effect any more. Deprecated: use registries.conf.', {
    flag: 'insecure-registry',
    env: 'CONTAINER_INSECURE_REGISTRY',
    deprecated: true,
  }),
  image_volumes: choice(
    'mkdir',
    ['mkdir', 'bind', 'ignore'],
    'What becomes of the volumes of an image: "mkdir", "bind" or "ignore".',
    {
      flag: 'image-volumes',
      env: 'CONTAINER_IMAGE_VOLUMES',
    },
  ),
  big_files_temporary_dir: string('', 'Folder for large temporary files. Empty: /var/tmp.', {
    flag: 'big-files-temporary-dir',
    env: 'CONTAINER_BIG_FILES_TEMPORARY_DIR',
    implemented: false,
  }),
  auto_reload_registries: bool(false, 'Read registries.conf.d again when it changes.', {
    flag: 'auto-reload-registries',
    env: 'AUTO_RELOAD_REGISTRIES',
  }),
  pull_progress_timeout: duration(0, 'Time after which a pull without progress is cancelled. 0s: never.', {
    flag: 'pull-progress-timeout',
    env: 'CONTAINER_PULL_PROGRESS_TIMEOUT',
  }),
  oci_artifact_mount_support: bool(true, 'OCI artifacts can be mounted as image volumes.', {
    flag: 'oci-artifact-mount-support',
    env: 'CONTAINER_OCI_ARTIFACT_SUPPORT',
    goName: 'OCIArtifactMountSupport',
  }),
  short_name_mode: string('enforcing', 'How image names without a registry are resolved: "enforcing" or "disabled".', {
    flag: 'short-name-mode',
    env: 'CONTAINER_SHORT_NAME_MODE',
  }),
} satisfies Options;

const network = {
  cni_default_network: string('', 'Name of the CNI network that pods are put into. Empty: the first in the folder.', {
    flag: 'cni-default-network',
    env: 'CONTAINER_CNI_DEFAULT_NETWORK',
    goName: 'CNIDefaultNetwork',
    template: 'commented',
  }),
  network_dir: string('/etc/cni/net.d/', 'Folder of the CNI configuration. It is watched.', {
    flag: 'cni-config-dir',
    env: 'CONTAINER_CNI_CONFIG_DIR',
  }),
  plugin_dir: string('', 'Folder of CNI plugins. Deprecated: use plugin_dirs.', {
    deprecated: true,
    template: 'never',
  }),
  plugin_dirs: strings(['/opt/cni/bin/'], 'Folders of CNI plugins.', {
    flag: 'cni-plugin-dir',
    env: 'CONTAINER_CNI_PLUGIN_DIR',
  }),
  cni_status_grace_period: duration(
    0,
    'Time for which a failing STATUS of the CNI plugins does not make the node not ready. 0s: none.',
    {
      flag: 'cni-status-grace-period',
      env: 'CNI_STATUS_GRACE_PERIOD',
      goName: 'CNIStatusGracePeriod',
      implemented: false,
    },
  ),
} satisfies Options;

/** In the order in which they are registered; what `metrics_collectors` holds by default. */
export const collectors = [
  'image_pulls_layer_size',
  'containers_events_dropped_total',
  'containers_oom_total',
  'processes_defunct',
  'operations_total',
  'operations_latency_seconds',
  'operations_latency_seconds_total',
  'operations_errors_total',
  'image_pulls_bytes_total',
  'image_pulls_skipped_bytes_total',
  'image_pulls_failure_total',
  'image_pulls_success_total',
  'image_layer_reuse_total',
  'containers_oom_count_total',
  'containers_seccomp_notifier_count_total',
  'resources_stalled_at_stage',
  'containers_stopped_monitor_count',
  'default_runtime',
];

const metrics = {
  enable_metrics: bool(false, 'Serve metrics for Prometheus.', {
    flag: 'enable-metrics',
    env: 'CONTAINER_ENABLE_METRICS',
  }),
  metrics_collectors: strings(collectors, 'The metrics that are collected.', {
    flag: 'metrics-collectors',
    env: 'CONTAINER_METRICS_COLLECTORS',
  }),
  metrics_host: string('127.0.0.1', 'Address of the metrics server.', {
    flag: 'metrics-host',
    env: 'CONTAINER_METRICS_HOST',
  }),
  metrics_port: int(9090, 'Port of the metrics server.', {
    flag: 'metrics-port',
    env: 'CONTAINER_METRICS_PORT',
  }),
  metrics_socket: string('', 'Unix socket of the metrics server, in addition to the port.', {
    flag: 'metrics-socket',
    env: 'CONTAINER_METRICS_SOCKET',
  }),
  metrics_cert: string(
    '',
    'Certificate of the metrics server. With a key: HTTPS. A self-signed pair is made when neither file exists; a changed file is picked up.',
    {
      flag: 'metrics-cert',
      env: 'CONTAINER_METRICS_CERT',
    },
  ),
  metrics_key: string('', 'Private key of the metrics server.', {
    flag: 'metrics-key',
    env: 'CONTAINER_METRICS_KEY',
  }),
} satisfies Options;

const tracing = {
  enable_tracing: bool(false, 'Export traces of OpenTelemetry.', {
    flag: 'enable-tracing',
    env: 'CONTAINER_ENABLE_TRACING',
    implemented: false,
  }),
  tracing_endpoint: string('127.0.0.1:4317', 'Address of the collector of traces.', {
    flag: 'tracing-endpoint',
    env: 'CONTAINER_TRACING_ENDPOINT',
    implemented: false,
  }),
  tracing_sampling_rate_per_million: int(0, 'Number of samples per million spans. 1000000 takes all.', {
    flag: 'tracing-sampling-rate-per-million',
    env: 'CONTAINER_TRACING_SAMPLING_RATE_PER_MILLION',
    implemented: false,
  }),
} satisfies Options;

const nri = {
  enable_nri: bool(true, 'Enable the Node Resource Interface.', {
    flag: 'enable-nri',
    goName: 'Enabled',
    implemented: false,
  }),
  nri_listen: string('/var/run/nri/nri.sock', 'Socket on which NRI plugins register.', {
    flag: 'nri-listen',
    goName: 'SocketPath',
    implemented: false,
  }),
  nri_plugin_dir: string('/opt/nri/plugins', 'Folder of the NRI plugins that are started with the daemon.', {
    flag: 'nri-plugin-dir',
    goName: 'PluginPath',
    implemented: false,
  }),
  nri_plugin_config_dir: string('/etc/nri/conf.d', 'Folder of the configuration of NRI plugins.', {
    flag: 'nri-plugin-config-dir',
    goName: 'PluginConfigPath',
    implemented: false,
  }),
  nri_disable_connections: bool(false, 'Refuse NRI plugins that were not started by the daemon.', {
    flag: 'nri-disable-connections',
    goName: 'DisableConnections',
    implemented: false,
  }),
  nri_plugin_registration_timeout: duration(5000, 'Time in which a plugin must register.', {
    flag: 'nri-plugin-registration-timeout',
    goName: 'PluginRegistrationTimeout',
    implemented: false,
  }),
  nri_plugin_request_timeout: duration(2000, 'Time in which a plugin must answer a request.', {
    flag: 'nri-plugin-request-timeout',
    goName: 'PluginRequestTimeout',
    implemented: false,
  }),
} satisfies Options;

const nriDefaultValidator = {
  nri_enable_default_validator: bool(false, 'Check what NRI plugins change with the built-in validator.', {
    flag: 'nri-enable-default-validator',
    implemented: false,
  }),
  nri_validator_reject_oci_hook_adjustment: bool(false, 'Reject added OCI hooks.', {
    flag: 'nri-validator-reject-oci-hook-adjustment',
    implemented: false,
  }),
  nri_validator_reject_runtime_default_seccomp_adjustment: bool(
    false,
    'Reject changes of the default seccomp profile.',
    {
      flag: 'nri-validator-reject-runtime-default-seccomp-adjustment',
      implemented: false,
    },
  ),
  nri_validator_reject_unconfined_seccomp_adjustment: bool(
    false,
    'Reject changes of the seccomp policy of unconfined containers.',
    {
      flag: 'nri-validator-reject-unconfined-seccomp-adjustment',
      implemented: false,
    },
  ),
  nri_validator_reject_custom_seccomp_adjustment: bool(false, 'Reject changes of custom seccomp profiles.', {
    flag: 'nri-validator-reject-custom-seccomp-adjustment',
    implemented: false,
  }),
  nri_validator_reject_namespace_adjustment: bool(false, 'Reject changes of namespaces.', {
    flag: 'nri-validator-reject-namespace-adjustment',
    implemented: false,
  }),
  nri_validator_required_plugins: strings(absent, 'Plugins without which no container is created.', {
    flag: 'nri-validator-required-plugins',
    implemented: false,
  }),
  nri_validator_tolerate_missing_plugins_annotation: string(
    '',
    'Annotation of a pod that may be created although required plugins are missing.',
    {
      flag: 'nri-validator-tolerate-missing-plugins-annotation',
      implemented: false,
    },
  ),
} satisfies Options;

const stats = {
  stats_collection_period: int(0, 'Has no effect any more. Deprecated: use collection_period.', {
    flag: 'stats-collection-period',
    env: 'CONTAINER_STATS_COLLECTION_PERIOD',
    deprecated: true,
    implemented: false,
  }),
  collection_period: int(0, 'Seconds between two collections of stats and pod metrics. 0: when they are asked for.', {
    flag: 'collection-period',
    env: 'COLLECTION_PERIOD',
  }),
  included_pod_metrics: strings(
    absent,
    'Metrics of pods that are collected: cpu, disk, diskIO, hugetlb, memory, network, oom, process, spec, pressure, or only "all".',
    {
      flag: 'included-pod-metrics',
      // The misspelt variable is CRI-O's first name of it; it wins, with a warning.
      env: ['CONTAINER_INCLUDED_POD_METRCIS', 'CONTAINER_INCLUDED_POD_METRICS'],
      implemented: false,
    },
  ),
} satisfies Options;

/** Fields of `[crio.runtime.runtimes.<handler>]`. The defaults are those of an entry that leaves the field out. */
export const handlerOptions = {
  runtime_path: string('', 'Path of the runtime. Empty: the name of the handler is looked up in $PATH.'),
  runtime_type: string('', '"oci" (the default), "vm" for a containerd shim, or "pod".'),
  runtime_root: string('', 'Folder in which the runtime keeps its state.'),
  inherit_default_runtime: bool(false, 'Take path, type, root and configuration of the default runtime.'),
  runtime_config_path: string('', 'Configuration of a runtime of type "vm".'),
  container_min_memory: string('', 'Smallest memory limit of a container, such as "12MiB".'),
  monitor_path: string('', 'Path of the monitor. Empty: conmon is looked up in $PATH.'),
  monitor_cgroup: string('', 'Cgroup of the monitor: "pod", or with systemd a slice.'),
  monitor_exec_cgroup: string('', 'Cgroup of the monitor of an exec: "container", or empty.', { implemented: false }),
  monitor_env: strings(absent, 'Environment of the monitor.'),
  privileged_without_host_devices: bool(false, 'Privileged containers do not get the devices of the host.'),
  allowed_annotations: strings(absent, 'Special annotations that pods of this handler may use.'),
  default_annotations: stringMap('Annotations added to pods that do not set them.'),
  platform_runtime_paths: stringMap('Other runtimes by platform, as "os/arch".', { implemented: false }),
  no_sync_log: bool(false, 'The monitor does not sync container logs to disk.', { template: 'never' }),
  runtime_pull_image: bool(false, 'The runtime pulls the image itself.', { template: 'never', implemented: false }),
  stream_websockets: bool(false, 'The monitor serves streams.', { template: 'never', implemented: false }),
  exec_cpu_affinity: string('', 'Pin an exec to the "first" CPU of the container.', {
    template: 'never',
    goName: 'ExecCPUAffinity',
  }),
  seccomp_profile: string('', 'Seccomp profile for containers of this handler that ask for RuntimeDefault.', {
    template: 'never',
  }),
  container_create_timeout: int(0, 'Limit for the creation of a container in seconds, at least 30. 0: 240.', {
    template: 'never',
  }),
} satisfies Options;

/** Fields of `[crio.runtime.workloads.<name>]`. */
export const workloadOptions = {
  activation_annotation: string('', 'Annotation of a pod that makes it one of this class.'),
  annotation_prefix: string('', 'Prefix of the annotations that set resources of one container.'),
  allowed_annotations: strings(absent, 'Special annotations that pods of this class may use.', { template: 'never' }),
  resources: {
    type: 'resources',
    default: undefined,
    doc: 'Resources of the containers of such pods.',
  } satisfies Option<WorkloadResources | undefined> as Option<WorkloadResources | undefined>,
} satisfies Options;

/** Fields of `[crio.runtime.workloads.<name>.resources]`. */
export const resourceOptions = {
  cpushares: uint(0, 'CPU shares.', { goName: 'CPUShares' }),
  cpuquota: int(0, 'CPU quota in microseconds.', { goName: 'CPUQuota' }),
  cpuperiod: uint(0, 'CPU period in microseconds.', { goName: 'CPUPeriod' }),
  cpuset: string('', 'CPUs.', { goName: 'CPUSet' }),
  cpulimit: int(0, 'CPU limit in thousandths of a CPU.', { goName: 'CPULimit' }),
} satisfies Options;

/** Field of `Config` -> TOML table and its options, in the order in which `crio config` prints them. */
export const groups = {
  crio: { table: 'crio', options: crio },
  api: { table: 'crio.api', options: api },
  runtime: { table: 'crio.runtime', options: runtime },
  checkpointRestore: { table: 'crio.checkpoint_restore', options: checkpointRestore },
  image: { table: 'crio.image', options: image },
  network: { table: 'crio.network', options: network },
  metrics: { table: 'crio.metrics', options: metrics },
  tracing: { table: 'crio.tracing', options: tracing },
  nri: { table: 'crio.nri', options: nri },
  nriDefaultValidator: { table: 'crio.nri.default_validator', options: nriDefaultValidator },
  stats: { table: 'crio.stats', options: stats },
} as const;

export type GroupName = keyof typeof groups;
