import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Client, credentials, Server, ServerCredentials, status, type ServiceError } from '@grpc/grpc-js';
import { statusWithMessage } from './status-with-message.ts';

const maxMessageBytes = 1000;
const pass = (bytes: Buffer): Buffer => bytes;
const method = {
  path: '/test/Echo',
  requestStream: false,
  responseStream: false,
  requestSerialize: pass,
  requestDeserialize: pass,
  responseSerialize: pass,
  responseDeserialize: pass,
};
const server = new Server({
  interceptors: [statusWithMessage(maxMessageBytes)],
  'grpc.max_send_message_length': maxMessageBytes,
});
/** `fail` fails, `big` is answered with too much, all else with itself. */
server.addService(
  { Echo: method },
  {
    Echo: ({ request }: { request: Buffer }, reply: (error: object | null, answer?: Buffer) => void) => {
      const text = request.toString();
      if (text === 'fail') reply({ code: status.NOT_FOUND, details: 'nothing' });
      else reply(null, text === 'big' ? Buffer.alloc(maxMessageBytes + 1) : request);
    },
  },
);
const port = await new Promise<number>((resolve, reject) => {
  server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
    error === null ? resolve(bound) : reject(error),
  );
});
const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
after(() => {
  client.close();
  server.forceShutdown();
});

function ask(text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(method.path, pass, pass, Buffer.from(text), (error, answer) =>
      error === null ? resolve(answer?.toString() ?? '') : reject(error),
    );
  });
}

const hasStatus = (code: number) => (error: ServiceError) => error.code === code;

test('answers, failures and answers that are too large reach the client', async () => {
  for (let count = 0; count < 20; count++) assert.equal(await ask(`text ${count}`), `text ${count}`);
  assert.equal(await ask(''), '');
  await assert.rejects(ask('fail'), hasStatus(status.NOT_FOUND));
  await assert.rejects(ask('big'), hasStatus(status.RESOURCE_EXHAUSTED));
  assert.equal(await ask('after'), 'after');
});
