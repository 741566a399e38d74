import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { toContainerConfig } from './container-config.ts';
import { describeMessage } from './describe.ts';
import { EncodedList } from './encoded-list.ts';
import {
  AuthConfigSchema,
  ContainerConfigSchema,
  ListPodSandboxResponseSchema,
  PodSandboxConfigSchema,
  PodSandboxSchema,
  Signal,
} from './gen/api_pb.ts';
import { toPodConfig } from './pod-config.ts';
import { fromSignalNumber, toSignalNumber } from './signals.ts';

const metadata = { name: 'pod', uid: 'u', namespace: 'default', attempt: 0 };

test('toPodConfig names what is missing', () => {
  assert.throws(() => toPodConfig(undefined), { kind: 'invalid', message: /PodSandboxConfig is nil/ });
  assert.throws(() => toPodConfig(create(PodSandboxConfigSchema, {})), /Metadata is nil/);
  const withoutUid = create(PodSandboxConfigSchema, { metadata: { ...metadata, uid: '' } });
  assert.throws(() => toPodConfig(withoutUid), /cannot generate pod name without uid in metadata/);
});

test('toPodConfig refuses numbers out of range', () => {
  const groups = create(PodSandboxConfigSchema, {
    metadata,
    linux: { securityContext: { supplementalGroups: [-1n] } },
  });
  assert.throws(() => toPodConfig(groups), /supplemental_groups: -1 is not a valid id/, 'CVE-2022-2995');
  const user = create(PodSandboxConfigSchema, {
    metadata,
    linux: { securityContext: { runAsUser: { value: 4294967296n } } },
  });
  assert.throws(() => toPodConfig(user), /run_as_user: 4294967296 is not a valid id/, 'CVE-2024-40635');
  const port = create(PodSandboxConfigSchema, { metadata, portMappings: [{ hostPort: 70_000 }] });
  assert.throws(() => toPodConfig(port), /host_port 70000 is out of range/);
});

test('toContainerConfig copies and keeps "no security context" apart from an empty one', () => {
  const base = { metadata: { name: 'c', attempt: 1 }, image: { image: 'busybox' } };
  const plain = toContainerConfig(create(ContainerConfigSchema, base));
  assert.equal(plain.securityContext, undefined);
  const empty = toContainerConfig(create(ContainerConfigSchema, { ...base, linux: { securityContext: {} } }));
  assert.deepEqual(empty.securityContext?.addCapabilities, []);
  assert.equal(empty.securityContext?.runAsUser, undefined);
  assert.throws(() => toContainerConfig(create(ContainerConfigSchema, { image: base.image })), /metadata is nil/);
  assert.throws(() => toContainerConfig(create(ContainerConfigSchema, { metadata: base.metadata })), /image is nil/);
});

test('signals map both ways', () => {
  assert.equal(toSignalNumber(Signal.SIGTERM), 15);
  assert.equal(toSignalNumber(Signal.SIGRTMIN), 34);
  assert.equal(toSignalNumber(Signal.SIGRTMAXMINUS1), 63);
  assert.equal(toSignalNumber(Signal.RUNTIME_DEFAULT), 0);
  assert.equal(fromSignalNumber(10), Signal.SIGUSR1);
});

test('describeMessage never prints a secret', () => {
  const auth = create(AuthConfigSchema, { username: 'me', password: 'hunter2', registryToken: 'token' });
  const text = describeMessage(AuthConfigSchema, auth);
  assert.match(text, /"username":"me"/);
  assert.doesNotMatch(text, /hunter2|"token"/);
});

test('EncodedList joins what the whole message would encode to', () => {
  const items = [
    { id: 'a', version: 1 },
    { id: 'b', version: 1 },
  ];
  const list = new EncodedList<{ id: string; version: number }, typeof PodSandboxSchema>({
    output: PodSandboxSchema,
    toMessage: ({ id }) => ({ id, metadata }),
    versionOf: ({ version }) => version,
  });
  const whole = () =>
    toBinary(
      ListPodSandboxResponseSchema,
      create(ListPodSandboxResponseSchema, { items: items.map(({ id }) => ({ id, metadata })) }),
    );
  assert.deepEqual(Buffer.from(list.encode(items, 1).bytes), Buffer.from(whole()));
  const first = items[0];
  assert.ok(first);
  first.id = 'changed';
  first.version = 2;
  assert.equal(fromBinary(ListPodSandboxResponseSchema, list.encode(items, 1).bytes).items[0]?.id, 'changed');
});
