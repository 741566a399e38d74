import type { IncomingHttpHeaders } from 'node:http';
import { goJson } from '../base/go-json.ts';
import { kindOf, messageOf } from '../base/errors.ts';
import type { ErrorKind } from '../base/errors.ts';
import type { UncheckedConfig } from '../config/config.ts';
import { printEffective } from '../config/print-effective.ts';
import type { Container } from '../container/container.ts';
import type { IdMapping } from '../pod/config.ts';
import type { Pod } from '../pod/pod.ts';
import { encodeContainer, encodeInfra } from './container-info.ts';
import { encodePulls, pullEvents, pullWithEvents } from './pulls.ts';
import type { PullsDeps } from './pulls.ts';
import { readRegistryAuth } from './registry-auth.ts';

/** What the HTTP API on the daemon's socket reads and does. All look-ups take the full id. */
export interface StatusDeps {
  /** The effective configuration. */
  readonly config: () => UncheckedConfig;
  readonly storage: { readonly driverName: string; readonly graphRoot: string; readonly imageStore: string };
  /** Node-wide mappings; empty without them. */
  readonly idMappings?: { readonly uids: readonly IdMapping[]; readonly gids: readonly IdMapping[] };
  readonly findContainer: (id: string) => Container | undefined;
  /** Also what is just being made: cAdvisor asks once, as soon as it sees the cgroup. */
  readonly knownContainer: (id: string) => Container | undefined;
  readonly knownPod: (id: string) => Pod | undefined;
  readonly containersOf: (podId: string) => readonly Container[];
  /** Throw CrioError `failed-precondition` naming the state when it is the wrong one. */
  readonly pause: (id: string) => Promise<void>;
  readonly unpause: (id: string) => Promise<void>;
  readonly pulls: PullsDeps;
  /** What the signature policy says about an image; with a signal the registry is asked, too. */
  readonly explainPolicy: (
    name: string,
    namespace: string,
    check: AbortSignal | undefined,
  ) => Promise<{ readonly text: string; readonly isRefused: boolean }>;
}

export interface StatusRequest {
  readonly method: string;
  /** Path with query, as in the request line. */
  readonly url: string;
  /** Names in lower case. */
  readonly headers?: IncomingHttpHeaders;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
}

export interface StatusResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** A stream of events, or the whole. */
  readonly body: string | AsyncIterable<string>;
}

type Handler = (deps: StatusDeps, id: string, request: StatusRequest) => StatusResponse | Promise<StatusResponse>;

interface Route {
  readonly pattern: RegExp;
  readonly GET?: Handler;
  readonly POST?: Handler;
}

const routes: readonly Route[] = [
  { pattern: /^\/config$/, GET: (deps) => ok('application/toml', printEffective(deps.config())) },
  { pattern: /^\/info$/, GET: (deps) => ok('application/json', encodeInfo(deps)) },
  { pattern: /^\/containers\/([^/]+)$/, GET: containerInfo },
  { pattern: /^\/pause\/([^/]+)$/, GET: (deps, id) => changeState(deps, id, deps.pause) },
  { pattern: /^\/unpause\/([^/]+)$/, GET: (deps, id) => changeState(deps, id, deps.unpause) },
  { pattern: /^\/pulls$/, GET: ({ pulls }) => ok('application/json', encodePulls(pulls.list())), POST: startPull },
  { pattern: /^\/policy$/, GET: explainPolicy },
  { pattern: /^\/pulls\/events$/, GET: ({ pulls }, _, { signal }) => events(pullEvents(pulls, signal)) },
];

/** Answers one request of the HTTP API; never throws. */
export async function handleStatusRequest(request: StatusRequest, deps: StatusDeps): Promise<StatusResponse> {
  const path = request.url.replace(/[?#].*$/s, '');
  for (const route of routes) {
    const match = route.pattern.exec(path);
    if (match === null) continue;
    const handler = request.method === 'GET' || request.method === 'POST' ? route[request.method] : undefined;
    if (handler === undefined) return { status: 405, headers: { Allow: allowed(route) }, body: '' };
    try {
      return await handler(deps, decode(match[1] ?? ''), request);
    } catch (error) {
      return failure(statusCodes.get(kindOf(error)) ?? 500, messageOf(error));
    }
  }
  return failure(404, '404 page not found');
}

const statusCodes: ReadonlyMap<ErrorKind, number> = new Map([
  ['failed-precondition', 409],
  ['invalid', 400],
]);

function allowed(route: Route): string {
  return (['GET', 'POST'] as const).filter((method) => route[method] !== undefined).join(', ');
}

/** A malformed escape is no id of anything. */
function decode(id: string): string {
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

function ok(contentType: string, body: string): StatusResponse {
  return { status: 200, headers: { 'Content-Type': contentType }, body };
}

function events(body: AsyncIterable<string>): StatusResponse {
  return { status: 200, headers: { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' }, body };
}

function startPull({ pulls }: StatusDeps, _: string, { url, headers = {}, signal }: StatusRequest): StatusResponse {
  const query = queryOf(url);
  const reference = query.get('image') ?? '';
  if (reference === '') return failure(400, 'no image specified');
  const target = { reference, namespace: query.get('namespace') ?? '', ...readRegistryAuth(headers) };
  return events(pullWithEvents(pulls, target, signal));
}

/** `{"refused":false,"text":"..."}` */
async function explainPolicy(deps: StatusDeps, _: string, { url, signal }: StatusRequest): Promise<StatusResponse> {
  const query = queryOf(url);
  const image = query.get('image') ?? '';
  if (image === '') return failure(400, 'no image specified');
  const check = query.get('check') === 'true' ? signal : undefined;
  const { text, isRefused } = await deps.explainPolicy(image, query.get('namespace') ?? '', check);
  return ok('application/json', goJson({ refused: isRefused, text }));
}

function queryOf(url: string): URLSearchParams {
  return new URLSearchParams(/\?([^#]*)/.exec(url)?.[1] ?? '');
}

function failure(status: number, text: string): StatusResponse {
  const headers = { 'Content-Type': 'text/plain; charset=utf-8', 'X-Content-Type-Options': 'nosniff' };
  return { status, headers, body: `${text}\n` };
}

/** The texts of the errors are CRI-O's. */
function containerInfo(deps: StatusDeps, id: string): StatusResponse {
  const container = deps.knownContainer(id);
  if (container !== undefined) {
    const pod = deps.knownPod(container.podId);
    if (pod === undefined) return failure(404, `can't find the sandbox for container id ${id}`);
    return ok('application/json', encodeContainer(container, pod));
  }
  // The infra container of a pod has the pod's id.
  const pod = deps.knownPod(id);
  if (pod === undefined) return failure(404, `can't find the container with id ${id}`);
  return ok('application/json', encodeInfra(pod, deps.containersOf(id), deps.config().image.pauseImage));
}

async function changeState(deps: StatusDeps, id: string, act: (id: string) => Promise<void>): Promise<StatusResponse> {
  if (deps.findContainer(id) === undefined) return failure(404, `can't find the container with id ${id}`);
  await act(id);
  return ok('text/html', '200 OK');
}

function encodeInfo({ config, storage, idMappings }: StatusDeps): string {
  // goJson sorts keys; the order of the members here is that of CRI-O's answer.
  const members = [
    ['storage_driver', storage.driverName],
    ['storage_image', storage.imageStore],
    ['storage_root', storage.graphRoot],
    ['cgroup_driver', config().runtime.cgroupManager],
  ].map(([key, value]) => `${goJson(key)}:${goJson(value)}`);
  const uids = encodeMappings(idMappings?.uids ?? []);
  const gids = encodeMappings(idMappings?.gids ?? []);
  return `{${members.join(',')},"default_id_mappings":{"uids":${uids},"gids":${gids}}}`;
}

/** Without mappings every id is itself. */
const identity: IdMapping = { containerId: 0, hostId: 0, size: 4_294_967_295 };

function encodeMappings(mappings: readonly IdMapping[]): string {
  const all = mappings.length === 0 ? [identity] : mappings;
  return goJson(all.map(({ containerId, hostId, size }) => ({ container_id: containerId, host_id: hostId, size })));
}
