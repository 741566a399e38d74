import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { Call } from '../base/call.ts';
import { CertificateFiles } from '../base/certificate-files.ts';
import { CrioError, wrap } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { runAttach, type AttachRequest } from './attach.ts';
import { runExec, type ExecDeps, type ExecRequest } from './exec.ts';
import { isWebSocketRequest, negotiateSpdy, negotiateWebSocket, type Negotiated, type Refusal } from './negotiation.ts';
import { dialPod, type FindPod, type PortForwardRequest } from './port-forward.ts';
import type { RemoteHandler } from './remote-command.ts';
import { acceptSpdy, listenForStreams, refuseUpgrade, type UpgradeRequest } from './server.ts';
import { portForwardProtocol, serveSpdyPortForward } from './spdy-port-forward.ts';
import { remoteCommandProtocols, serveSpdyRemoteCommand } from './spdy-remote-command.ts';
import { settingsOf } from './settings.ts';
import { TokenCache } from './tokens.ts';
import { acceptWebSocket, tunnelOf } from './websocket.ts';
import { serveWebSocketPortForward, tooManyPorts, webSocketForwardProtocols } from './websocket-port-forward.ts';
import { serveWebSocketRemoteCommand, webSocketVersions } from './websocket-remote-command.ts';
import { whenAborted } from './when-aborted.ts';

/** Exec, attach and port-forward: URLs for the CRI's answers, and the server behind them. Disposing ends all sessions. */
export interface Streaming extends AsyncDisposable {
  exec(request: ExecRequest): string;
  attach(request: AttachRequest): string;
  portForward(request: PortForwardRequest): string;
}

export interface StreamingDeps extends ExecDeps {
  readonly config: () => Config;
  readonly findPod: FindPod;
  readonly log: Logger;
}

type Session =
  | { readonly kind: 'exec'; readonly request: ExecRequest }
  | { readonly kind: 'attach'; readonly request: AttachRequest }
  | { readonly kind: 'portforward'; readonly request: PortForwardRequest };

const tunnelProtocol = `SPDY/3.1+${portForwardProtocol}`;
/** Time for commands of open sessions to be ended, and for clients to hear of it, when the daemon stops. */
const shutdownLimitMs = 3000;
const shuttingDown = 'the daemon is shutting down';

interface Context {
  readonly deps: StreamingDeps;
  readonly tokens: TokenCache<Session>;
  readonly idleTimeoutMs: number;
  readonly sessions: Set<Promise<void>>;
  /** Of exec and attach that run: ends each, and resolves when its client has been told. */
  readonly running: Map<AbortController, Promise<unknown>>;
  isStopping: boolean;
}

/** Listens on the configured address and serves until disposed. */
export async function createStreaming(deps: StreamingDeps): Promise<Streaming> {
  const settings = settingsOf(deps.config().api);
  const context: Context = {
    deps,
    tokens: new TokenCache(),
    idleTimeoutMs: settings.idleTimeoutMs,
    sessions: new Set(),
    running: new Map(),
    isStopping: false,
  };
  const certificate = settings.tls === undefined ? undefined : new CertificateFiles(settings.tls);
  const server = await listenForStreams({
    host: settings.host,
    port: settings.port,
    tls: certificate?.options(),
    // Three stat(2) calls, so that nothing has to watch the files, or can miss a change.
    beforeConnection: () => certificate?.reloadIfChanged((changed) => server.setCertificate(changed), deps.log),
    refuse: (request) => refusalOf(context, request),
    upgrade: (upgrade) => onUpgrade(context, upgrade),
  }).catch((error: unknown) => {
    throw wrap(`listen for streams on "${settings.host}:${settings.port}"`, error);
  });
  const urlOf = (session: Session): string => `${server.baseUrl}/${session.kind}/${context.tokens.issue(session)}`;
  return {
    exec: (request) => urlOf({ kind: 'exec', request: checked(request, 'or') }),
    attach: (request) => urlOf({ kind: 'attach', request: checked(request, 'and') }),
    portForward(request) {
      if (request.podId === '') throw invalid('missing required pod_sandbox_id');
      return urlOf({ kind: 'portforward', request });
    },
    async [Symbol.asyncDispose]() {
      const timeout = new Promise<void>((resolve) => setTimeout(resolve, shutdownLimitMs).unref());
      await Promise.race([endCommands(context), timeout]);
      await server[Symbol.asyncDispose]();
      await Promise.race([Promise.allSettled(context.sessions), timeout]);
    },
  };
}

/** A connection that is only cut would look to a client of exec as if its command had succeeded. */
async function endCommands(context: Context): Promise<void> {
  context.isStopping = true;
  for (const end of context.running.keys()) end.abort(new CrioError('canceled', shuttingDown));
  await Promise.all(context.running.values());
}

/** Texts are those of the Go server, which has its own conjunction for each of the two. */
function checked<T extends ExecRequest | AttachRequest>(request: T, conjunction: 'or' | 'and'): T {
  if (request.containerId === '') throw invalid('missing required container_id');
  if (request.tty && request.stderr) throw invalid('tty and stderr cannot both be true');
  if (request.stdin || request.stdout || request.stderr) return request;
  throw invalid(`one of stdin, stdout, ${conjunction} stderr must be set`);
}

function invalid(text: string): CrioError {
  return new CrioError('invalid', text);
}

const notFound: Refusal = { status: 404, body: '404 page not found\n' };

/** The session that a request names; its token is used up with that, whatever becomes of the request. */
function takeSession(context: Context, { url = '', method = '' }: IncomingMessage): Session | Refusal {
  const [, kind, token] = /^\/(exec|attach|portforward)\/([\w-]+)\/?(?:\?.*)?$/.exec(url) ?? [];
  if (kind === undefined || token === undefined) return { status: 404, body: '404: Page Not Found' };
  if (method !== 'GET' && method !== 'POST') {
    return { status: 405, body: '405: Method Not Allowed', headers: [['Allow', 'GET, POST']] };
  }
  const session = context.tokens.take(token);
  return session?.kind === kind ? session : notFound;
}

function spdyProtocolsOf({ kind }: Session): readonly string[] {
  return kind === 'portforward' ? [portForwardProtocol] : remoteCommandProtocols;
}

function webSocketProtocolsOf({ kind }: Session): readonly string[] {
  return kind === 'portforward' ? [tunnelProtocol, ...webSocketForwardProtocols.keys()] : [...webSocketVersions.keys()];
}

function headerCount({ headers }: IncomingMessage): number {
  return Object.keys(headers).filter((name) => name !== 'host').length;
}

/** A request without an upgrade is a SPDY one that lacks something. */
function refusalOf(context: Context, request: IncomingMessage): Refusal {
  const session = takeSession(context, request);
  if ('status' in session) return session;
  const spdy = { headers: request.headers, headerCount: headerCount(request) };
  const negotiated = negotiateSpdy(spdy, spdyProtocolsOf(session));
  if ('refusal' in negotiated) return negotiated.refusal;
  return { status: 400, body: 'unable to upgrade: missing upgrade headers in request\n' };
}

/** False when it is refused. */
function onUpgrade(context: Context, upgrade: UpgradeRequest): boolean {
  const { request, socket } = upgrade;
  const session = takeSession(context, request);
  if ('status' in session) {
    refuseUpgrade(socket, session);
    return false;
  }
  const isWebSocket = isWebSocketRequest(request.headers);
  const negotiated = negotiate(request, session, isWebSocket);
  if ('refusal' in negotiated) {
    refuseUpgrade(socket, negotiated.refusal);
    return false;
  }
  const { log } = context.deps;
  const serve = isWebSocket ? serveWebSocket : serveSpdy;
  const ended = serve(context, session, upgrade, negotiated.protocol).catch((error: unknown) => {
    log.error(`serve ${session.kind}`, error);
    socket.destroy();
  });
  context.sessions.add(ended);
  void ended.finally(() => context.sessions.delete(ended));
  return true;
}

function negotiate(request: IncomingMessage, session: Session, isWebSocket: boolean): Negotiated {
  const { method = 'GET', headers } = request;
  if (!isWebSocket) return negotiateSpdy({ headers, headerCount: headerCount(request) }, spdyProtocolsOf(session));
  const negotiated = negotiateWebSocket({ method, headers }, webSocketProtocolsOf(session));
  if ('refusal' in negotiated || session.kind !== 'portforward') return negotiated;
  const { protocol } = negotiated;
  if (protocol === tunnelProtocol) return negotiated;
  const refusal = tooManyPorts(protocol, session.request.ports.length);
  return refusal === undefined ? negotiated : { refusal };
}

async function serveSpdy(context: Context, session: Session, upgrade: UpgradeRequest, protocol: string): Promise<void> {
  const { idleTimeoutMs } = context;
  const { traffic } = upgrade;
  const transport = acceptSpdy(upgrade, protocol);
  if (session.kind === 'portforward') {
    await serveSpdyPortForward({ transport, traffic, idleTimeoutMs, ...forwardingOf(context, session.request) });
    return;
  }
  const known = remoteCommandProtocols.find((name) => name === protocol);
  if (known === undefined) throw new CrioError('internal', `sub-protocol "${protocol}"`);
  const handle = handlerOf(context, session);
  const options = session.request;
  await serveSpdyRemoteCommand({ transport, protocol: known, options, traffic, idleTimeoutMs, handle });
}

async function serveWebSocket(
  context: Context,
  session: Session,
  { request, socket: transport, head, traffic }: UpgradeRequest,
  protocol: string,
): Promise<void> {
  const { idleTimeoutMs } = context;
  const socket = await acceptWebSocket(request, { socket: transport, head }, protocol);
  if (socket === undefined) return;
  if (session.kind !== 'portforward') {
    const handle = handlerOf(context, session);
    const options = session.request;
    await serveWebSocketRemoteCommand({ socket, protocol, options, traffic, idleTimeoutMs, handle });
    return;
  }
  const forwarding = forwardingOf(context, session.request);
  if (protocol === tunnelProtocol) {
    await serveSpdyPortForward({ transport: tunnelOf(socket), traffic, idleTimeoutMs, ...forwarding });
  } else {
    const { ports } = session.request;
    await serveWebSocketPortForward({ socket, protocol, ports, traffic, idleTimeoutMs, ...forwarding });
  }
}

function forwardingOf({ deps }: Context, { podId }: PortForwardRequest) {
  return { podId, dial: (port: number) => dialPod(deps.findPod, podId, port), log: deps.log };
}

function handlerOf(context: Context, session: Exclude<Session, { kind: 'portforward' }>): RemoteHandler {
  const { deps, running } = context;
  return async (streams) => {
    const id = randomUUID();
    const log = deps.log.with({ id, name: session.kind });
    const end = new AbortController();
    const onClosed = () => end.abort(streams.closed.reason);
    streams.closed.addEventListener('abort', onClosed, { once: true });
    if (streams.closed.aborted) onClosed();
    const call = new Call({ name: session.kind, id, log, signal: end.signal });
    const told = whenAborted(streams.closed);
    running.set(end, told);
    try {
      const own = { ...streams, closed: end.signal };
      const result = await (session.kind === 'exec'
        ? runExec(call, deps, session.request, own)
        : runAttach(call, deps, session.request, own));
      return context.isStopping ? { kind: 'failure', message: shuttingDown } : result;
    } finally {
      streams.closed.removeEventListener('abort', onClosed);
      void told.finally(() => running.delete(end));
    }
  };
}
