import type { Call } from '../base/call.ts';
import type { TerminalSize } from '../sys/terminal.ts';
import type { Spec, LinuxResources } from './spec/oci.ts';

/** What the OCI runtime and its monitor are asked to do; `oci/` (conmon + runc, crun) implements it, later vm and pod types. */
export interface ContainerRuntime {
  /** Name of the handler in the configuration. */
  readonly handler: string;
  /**
   * Starts the monitor, which creates the container; returns when the init process waits for `start`.
   * The bundle holds `config.json`; the log file's folder exists. On failure nothing is left behind.
   * Throws `container create failed: <text of the runtime>`.
   */
  create(call: Call, options: CreateOptions): Promise<CreatedProcess>;
  /** Lets the init process run the program. Throws with the runtime's own text. */
  start(call: Call, id: string): Promise<void>;
  /** Sends a signal (number) through the runtime; `undefined`-like success when the process is gone already. */
  kill(call: Call, id: string, signal: number, options?: { all?: boolean }): Promise<void>;
  /** `delete --force`; an unknown container is success. */
  delete(call: Call, id: string): Promise<void>;
  /** The runtime's own record; undefined when it does not know the container. Only used at restart. */
  state(call: Call, id: string): Promise<RuntimeState | undefined>;
  pause(call: Call, id: string): Promise<void>;
  resume(call: Call, id: string): Promise<void>;
  update(call: Call, id: string, resources: LinuxResources): Promise<void>;
  /** Runs one command to its end; nothing is written to disk. */
  execSync(call: Call, options: ExecSyncOptions): Promise<ExecSyncResult>;
  /** Starts a command whose input and output are streams. Throws with the runtime's text when it does not start. */
  execStream(call: Call, options: ExecStreamOptions): Promise<ExecProcess>;
  /** Connects to the container's own input and output at its monitor. */
  attach(call: Call, options: { id: string; bundle: string }): Promise<Attachment>;
  /** Asks the monitor to open the log anew after a rotation; returns when the new file is there. */
  reopenLog(call: Call, options: { bundle: string; logPath: string }): Promise<void>;
  readonly features: RuntimeFeatures;
}

export interface RuntimeFeatures {
  /** First line of `--version`, e.g. `crun version 1.8.1`. */
  readonly version: string;
  /** Highest `ociVersion` this runtime accepts in a config.json (crun 1.8.1 refuses 1.2.0). */
  readonly ociVersion: string;
  readonly recursiveReadOnlyMounts: boolean;
  readonly idmapMounts: boolean;
}

export interface CreateOptions {
  readonly id: string;
  /** Container name for the monitor's own messages. */
  readonly name: string;
  /** Run directory; holds config.json, gets pidfile, conmon-pidfile, attach, ctl, winsz. */
  readonly bundle: string;
  /** Directory for `exit` and `oom` that outlive the bundle. */
  readonly persistDir: string;
  readonly logPath: string;
  readonly terminal: boolean;
  readonly stdin: boolean;
  readonly stdinOnce: boolean;
  /** cgroup parent of the pod, for the monitor when `monitor_cgroup` is `pod`. */
  readonly cgroupParent: string;
  /** Limit for the whole creation, ms. */
  readonly timeoutMs: number;
}

/** A process that is recognised again by pid and start time (clock ticks since boot, field 22 of /proc/pid/stat). */
export interface ProcessRef {
  readonly pid: number;
  readonly startTime: string;
}

export interface CreatedProcess {
  readonly init: ProcessRef;
  readonly monitor: ProcessRef | undefined;
}

export interface RuntimeState {
  readonly ociVersion: string;
  readonly id: string;
  readonly status: 'creating' | 'created' | 'running' | 'paused' | 'stopped';
  readonly pid: number;
  readonly bundle: string;
  /** RFC 3339 */
  readonly created: string;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface ExecSyncOptions {
  readonly id: string;
  /** `process` of the container's config.json with args replaced. */
  readonly process: NonNullable<Spec['process']>;
  /** ms; 0 means none. On timeout every process of the exec's session is killed. */
  readonly timeoutMs: number;
  /** Bytes kept of stdout and stderr together; reading goes on, the rest is dropped. */
  readonly maxOutputBytes: number;
  /** CPUs that the container is bound to. */
  readonly cpus?: string | undefined;
}

export interface ExecSyncResult {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly exitCode: number;
  readonly timedOut: boolean;
}

export interface ExecStreamOptions {
  readonly id: string;
  /** `process` of the container's config.json with args and terminal replaced. */
  readonly process: NonNullable<Spec['process']>;
  /** Which of the command's descriptors are wanted; the others are /dev/null. With a terminal all output is stdout. */
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Host ids that the command's user has, for the owner of its pipes. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** CPUs that the container is bound to. */
  readonly cpus?: string | undefined;
}

/** A command that runs in a container. Disposing closes the descriptors; it does not end the command. */
export interface ExecProcess extends Disposable {
  readonly stdin: OutputStream | undefined;
  readonly stdout: InputStream | undefined;
  readonly stderr: InputStream | undefined;
  /** Resolves with the exit code (128 + N for signal N); background processes may go on. */
  readonly exited: Promise<number>;
  /** Without a terminal nothing happens. */
  resize(size: TerminalSize): void;
  /** Kills every process of the command's session; once the command has ended, nothing happens. */
  kill(): Promise<void>;
}

/** What somebody writes for us, by demand. */
export interface InputStream {
  /** Undefined at the end. One caller at a time. */
  read(): Promise<Buffer | undefined>;
  /** The end comes as soon as nothing is left to read. */
  endWhenEmpty(): void;
  close(): void;
}

/** What somebody reads from us; waits while they do not. */
export interface OutputStream {
  /** False when nobody reads any more. One caller at a time. */
  write(data: Uint8Array): Promise<boolean>;
  /** No more will come; the other side reads an end. */
  end(): void;
  close(): void;
}

export interface Attachment extends Disposable {
  /** The next piece of output, which must be fetched without delay: the container waits for it. Undefined at its end. */
  receive(): Promise<{ readonly stream: 'stdout' | 'stderr'; readonly data: Buffer } | undefined>;
  /** False when the container takes no input any more. One caller at a time. */
  send(data: Uint8Array): Promise<boolean>;
  /** Ends the container's input if it was created with `stdinOnce`. */
  endInput(): void;
  /** Only for a container with a terminal. */
  resize(size: TerminalSize): void;
}

/** How a container ended, from the monitor's exit file. */
export interface ExitRecord {
  readonly containerId: string;
  readonly exitCode: number;
  /** ns since the epoch: ctime of the exit file */
  readonly finishedAtNs: bigint;
  readonly oomKilled: boolean;
}
