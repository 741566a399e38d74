import { lstatSync, readdirSync, type Stats } from 'node:fs';
import { lstat, readdir, realpath, stat } from 'node:fs/promises';
import { posix } from 'node:path';
import { CrioError, hasCode, wrap } from '../base/errors.ts';
import type { ContainerDevice } from '../container/config.ts';
import type { ResolvedDevices } from '../runtime/spec/input.ts';

type Node = ResolvedDevices['nodes'][number];

export interface DevicesRequest {
  /** CRI devices */
  readonly devices: readonly ContainerDevice[];
  /** `additional_devices`: `src[:dst][:perm]` */
  readonly additional: readonly string[];
  /** The devices annotation: comma list of the same; undefined when not set or not allowed */
  readonly annotation: string | undefined;
  /** `allowed_devices` */
  readonly allowed: readonly string[];
  readonly privileged: boolean;
  readonly privilegedWithoutHostDevices: boolean;
  /** Owner of the nodes with `device_ownership_from_security_context`; ids of 0 keep the host's. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
}

/** Device nodes and rules of a container: from the configuration, the annotation, the host (privileged), the request. */
export async function resolveDevices(request: DevicesRequest): Promise<ResolvedDevices> {
  const found = new Found();
  for (const text of request.additional) await addDevice(found, parseDevice(text), request);
  for (const text of splitAnnotation(request.annotation))
    await addDevice(found, allowedDevice(text, request.allowed), request);
  const allHost = request.privileged && !request.privilegedWithoutHostDevices;
  if (allHost) for (const node of hostDevices()) found.addNode(node);
  for (const device of request.devices) {
    if (allHost) await refuseTakenPath(device);
    await addDevice(found, { ...device, permissions: device.permissions === '' ? 'rwm' : device.permissions }, request);
  }
  return { nodes: [...found.nodes.values()], rules: allHost ? [{ allow: true, access: 'rwm' }] : found.rules };
}

/** A later device at the same path takes the place of an earlier one. */
class Found {
  readonly nodes = new Map<string, Node>();
  readonly rules: ResolvedDevices['rules'][number][] = [];

  addNode(node: Node): void {
    this.nodes.set(node.path, node);
  }
  add(node: Node, access: string): void {
    this.addNode(node);
    this.rules.push({ allow: true, type: node.type, major: node.major, minor: node.minor, access });
  }
}

/** `src[:dst][:perm]`; the second part is the permission when it only has its letters. Throws CrioError `invalid`. */
export function parseDevice(text: string): ContainerDevice {
  const parts = text.split(':');
  const [hostPath = '', second = '', third = ''] = parts;
  const isPermission = second !== '' && /^[rwm]+$/.test(second);
  const containerPath = second === '' || isPermission ? hostPath : second;
  const permissions = (isPermission ? second : third) || 'rwm';
  const isValid =
    parts.length <= (isPermission ? 2 : 3) && hostPath.startsWith('/') && containerPath.startsWith('/dev/');
  if (!isValid || !/^[rwm]{1,3}$/.test(permissions) || posix.normalize(containerPath) !== containerPath) {
    throw new CrioError('invalid', `parse device "${text}": src[:dst][:perm] with dst below /dev expected`);
  }
  return { hostPath, containerPath, permissions };
}

function splitAnnotation(text: string | undefined): string[] {
  return (text ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

function allowedDevice(text: string, allowed: readonly string[]): ContainerDevice {
  const device = parseDevice(text);
  if (allowed.includes(device.hostPath)) return device;
  // CRI-O's text
  throw new CrioError('invalid', `device ${device.hostPath} is specified but is not in allowed_devices`);
}

async function addDevice(found: Found, device: ContainerDevice, { owner }: DevicesRequest): Promise<void> {
  for (const { path, info } of await devicesAt(device)) {
    const node = nodeOf(path, info);
    if (node === undefined) continue;
    if (owner !== undefined && owner.uid > 0) node.uid = owner.uid;
    if (owner !== undefined && owner.gid > 0) node.gid = owner.gid;
    found.add(node, device.permissions);
  }
}

/** One device, or all below a directory, each with its path in the container. */
async function devicesAt({ hostPath, containerPath }: ContainerDevice): Promise<{ path: string; info: Stats }[]> {
  try {
    const source = await realpath(hostPath);
    const info = await stat(source);
    if (!info.isDirectory()) {
      if (nodeOf(containerPath, info) === undefined) throw new CrioError('invalid', 'not a device node');
      return [{ path: containerPath, info }];
    }
    const names = await readdir(source, { recursive: true });
    return await Promise.all(
      names
        .toSorted()
        .map(async (name) => ({ path: posix.join(containerPath, name), info: await lstat(posix.join(source, name)) })),
    );
  } catch (error) {
    throw wrap(`find device "${hostPath}"`, error);
  }
}

/** Undefined for what is no device: plain files, directories, links, sockets. */
function nodeOf(path: string, info: Stats): Node | undefined {
  const type = info.isCharacterDevice() ? 'c' : info.isBlockDevice() ? 'b' : info.isFIFO() ? 'p' : undefined;
  if (type === undefined) return undefined;
  const { major, minor } = type === 'p' ? { major: 0, minor: 0 } : splitDevice(info.rdev);
  return { path, type, major, minor, fileMode: info.mode & 0o777, uid: info.uid, gid: info.gid };
}

/** makedev(3) backwards, glibc's encoding. */
function splitDevice(device: number): { major: number; minor: number } {
  const value = BigInt(device);
  const major = ((value >> 8n) & 0xfffn) | ((value >> 32n) & 0xfffff000n);
  const minor = (value & 0xffn) | ((value >> 12n) & 0xffffff00n);
  return { major: Number(major), minor: Number(minor) };
}

/** Trees of /dev that every container gets anew, and the console, which is the terminal's. */
const skipped = new Set(['pts', 'shm', 'fd', 'mqueue', '.lxc', '.lxd-mounts', '.udev', 'console']);

/** Every device node of the host, for privileged containers. */
function hostDevices(directory = '/dev'): Node[] {
  const nodes: Node[] = [];
  for (const name of readdirSync(directory).toSorted()) {
    if (directory === '/dev' && skipped.has(name)) continue;
    const path = posix.join(directory, name);
    const info = lstatIfThere(path);
    if (info?.isDirectory() === true) nodes.push(...hostDevices(path));
    const node = info === undefined || info.isFIFO() ? undefined : nodeOf(path, info);
    if (node !== undefined) nodes.push(node);
  }
  return nodes;
}

/** Devices come and go while the tree is read. */
function lstatIfThere(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

async function refuseTakenPath({ hostPath, containerPath }: ContainerDevice): Promise<void> {
  if (containerPath === hostPath) return;
  try {
    await lstat(containerPath);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    throw error;
  }
  // CRI-O's text
  throw new CrioError(
    'invalid',
    'privileged container was configured with a device container path that already exists on the host',
  );
}
