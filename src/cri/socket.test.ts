import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, credentials, Server, ServerCredentials, type ServiceError } from '@grpc/grpc-js';
import { CrioError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { bindService, type ServiceHandlers } from './dispatch.ts';
import { ImageService, RuntimeService } from './gen/api_pb.ts';
import { listenOnSocket } from './listen.ts';

interface TestServer extends AsyncDisposable {
  readonly path: string;
  drain(): Promise<void>;
  call(method: string, body?: Buffer): Promise<Buffer>;
}

async function startServer(handlers: ServiceHandlers<typeof RuntimeService> = {}): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), 'crio-socket-'));
  const path = join(folder, 'run', 'crio.sock');
  const grpc = new Server();
  for (const { definition, implementation } of [
    bindService(RuntimeService, handlers, { log: silentLog }),
    bindService(ImageService, {}, { log: silentLog }),
  ]) {
    grpc.addService(definition, implementation);
  }
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  const server = await listenOnSocket({
    path,
    onHttp2: (socket) => injector.injectConnection(socket),
    onHttp1: (_request, response) => response.end('plain'),
  });
  const client = new Client(`unix:${path}`, credentials.createInsecure());
  const asIs = (bytes: Buffer) => bytes;
  return {
    path,
    async drain() {
      injector.drain(5000);
      await server.drained();
    },
    call: (method, body = Buffer.alloc(0)) =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(method, asIs, asIs, body, (error, answer) => {
          if (error === null) resolve(answer ?? Buffer.alloc(0));
          else reject(error);
        });
      }),
    async [Symbol.asyncDispose]() {
      client.close();
      grpc.forceShutdown();
      await server[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
}

function get(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ socketPath: path, path: '/info' }, (response) => {
      response.setEncoding('utf8');
      response.on('data', resolve);
    })
      .on('error', reject)
      .end();
  });
}

test('all 43 methods are registered; one that is not built answers UNIMPLEMENTED and names itself', async () => {
  await using server = await startServer();
  const methods = [...RuntimeService.methods, ...ImageService.methods];
  assert.equal(methods.length, 43);
  for (const method of methods.filter(({ methodKind }) => methodKind === 'unary')) {
    await assert.rejects(server.call(`/${method.parent.typeName}/${method.name}`), (error: ServiceError) => {
      assert.equal(error.code, 12);
      assert.match(error.details, new RegExp(`^${method.name} is not implemented`));
      return true;
    });
  }
});

test('gRPC and HTTP/1 share the socket, also when the first bytes come one by one', async () => {
  await using server = await startServer({ version: async () => ({ runtimeName: 'cri-o' }) });
  assert.equal(await get(server.path), 'plain');
  assert.match((await server.call('/runtime.v1.RuntimeService/Version')).toString(), /cri-o/);
  const socket = connect(server.path);
  const answer = new Promise<string>((resolve) => socket.once('data', (data) => resolve(data.toString())));
  for (const byte of 'POST /x HTTP/1.1\r\nhost: x\r\n\r\n') {
    socket.write(byte);
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.match(await answer, /^HTTP\/1\.1 200/);
  socket.destroy();
  assert.equal((await stat(server.path)).mode & 0o777, 0o660);
});

test('an error keeps its kind as a code and its text; bytes that are no message are an error, not a crash', async () => {
  await using server = await startServer({
    version: () => Promise.reject(new CrioError('not-found', 'could not find pod "x"')),
    status: () => {
      throw new TypeError('thrown before any await');
    },
  });
  await assert.rejects(server.call('/runtime.v1.RuntimeService/Version'), {
    code: 5,
    details: 'could not find pod "x"',
  });
  await assert.rejects(server.call('/runtime.v1.RuntimeService/Status'), { code: 2, details: /thrown before/ });
  await assert.rejects(server.call('/runtime.v1.RuntimeService/Version', Buffer.from([0xff, 0xff, 0xff])), {
    code: 13,
  });
  await assert.rejects(server.call('/runtime.v1.RuntimeService/Version'), { code: 5 }, 'it still answers');
});

test('a socket that somebody answers on is refused, a stale one is taken over', async () => {
  await using server = await startServer();
  const again = { path: server.path, onHttp2: () => undefined, onHttp1: () => undefined };
  await assert.rejects(listenOnSocket(again), /another process answers there/);
  // Closing a server unlinks the name it was bound to: under another name its socket stays, as after a crash.
  const dead = createServer().listen(`${server.path}.bound`);
  await once(dead, 'listening');
  await rename(`${server.path}.bound`, `${server.path}.stale`);
  dead.close();
  await using taken = await listenOnSocket({ ...again, path: `${server.path}.stale` });
  assert.ok((await stat(taken.path)).isSocket());
});

test('a request that is running is answered before the socket counts as drained, and no new one is taken', async () => {
  const started = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  await using server = await startServer({
    async version() {
      started.resolve();
      await answer.promise;
      return { version: '1' };
    },
  });
  const running = server.call('/runtime.v1.RuntimeService/Version');
  await started.promise;
  let isDrained = false;
  const drained = server.drain().then(() => (isDrained = true));
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(isDrained, false);
  await assert.rejects(once(connect(server.path), 'connect'));
  answer.resolve();
  assert.ok((await running).length > 0);
  await drained;
});

test('a client that goes without a goodbye leaves no connection, whatever it has sent', async () => {
  await using server = await startServer();
  const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
  const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings]);
  for (const sent of [Buffer.alloc(0), preface.subarray(0, 2), preface.subarray(0, 20), preface]) {
    for (const pauseMs of [0, 50]) {
      const socket = connect({ path: server.path, allowHalfOpen: true });
      socket.write(sent);
      await sleep(pauseMs);
      socket.end();
      socket.resume();
      await once(socket, 'end', { signal: AbortSignal.timeout(20_000) });
    }
  }
});
