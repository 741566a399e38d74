/** `test/client/cri`: a small client for people, by default against the daemon of `make run`. */
import { readFileSync } from 'node:fs';
import { ContainerState, PodSandboxState } from '../../src/cri/gen/api_pb.ts';
import { connect, serviceError, type CriClient } from './client.ts';
import { containerStatus, ensureImage, execSync, removePod, runContainer, runPod } from './pods.ts';

type Command = (client: CriClient, args: readonly string[]) => Promise<number | undefined>;

const short = (id: string): string => id.slice(0, 13);
const commands: Readonly<Record<string, { usage: string; run: Command }>> = {
  version: { usage: 'version', run: showVersion },
  pods: { usage: 'pods', run: listPods },
  ps: { usage: 'ps', run: listContainers },
  images: { usage: 'images', run: listImages },
  pull: { usage: 'pull IMAGE', run: pull },
  run: { usage: 'run IMAGE [COMMAND...]', run: runImage },
  logs: { usage: 'logs CONTAINER', run: showLog },
  exec: { usage: 'exec CONTAINER COMMAND...', run: exec },
  inspect: { usage: 'inspect CONTAINER', run: inspect },
  stop: { usage: 'stop CONTAINER', run: stop },
  rmp: { usage: 'rmp POD', run: remove },
};

process.exitCode = await main(process.argv.slice(2));

async function main([name = '', ...args]: readonly string[]): Promise<number> {
  const command = commands[name];
  if (command === undefined) {
    console.error(
      `usage: cri COMMAND\n${Object.values(commands)
        .map((item) => `  ${item.usage}`)
        .join('\n')}`,
    );
    console.error('CRI_SOCKET names another socket than that of "make run".');
    return 2;
  }
  using client = connect(process.env['CRI_SOCKET'] ?? '/run/crio-ts/crio.sock');
  try {
    return (await command.run(client, args)) ?? 0;
  } catch (error) {
    console.error(serviceError(error).details);
    return 1;
  }
}

async function showVersion(client: CriClient): Promise<undefined> {
  const { runtimeName, runtimeVersion, runtimeApiVersion } = await client.runtime.version({});
  console.log(`${runtimeName} ${runtimeVersion}, CRI ${runtimeApiVersion}`);
}

async function listPods(client: CriClient): Promise<undefined> {
  const { items } = await client.runtime.listPodSandbox({});
  printTable(
    ['POD', 'STATE', 'NAMESPACE', 'NAME', 'CREATED'],
    items.map((pod) => [
      short(pod.id),
      nameOf(PodSandboxState, pod.state).replace('SANDBOX_', ''),
      pod.metadata?.namespace ?? '',
      pod.metadata?.name ?? '',
      since(pod.createdAt),
    ]),
  );
}

async function listContainers(client: CriClient): Promise<undefined> {
  const { containers } = await client.runtime.listContainers({});
  printTable(
    ['CONTAINER', 'STATE', 'NAME', 'IMAGE', 'POD', 'CREATED'],
    containers.map((item) => [
      short(item.id),
      nameOf(ContainerState, item.state).replace('CONTAINER_', ''),
      item.metadata?.name ?? '',
      item.image?.image ?? '',
      short(item.podSandboxId),
      since(item.createdAt),
    ]),
  );
}

async function listImages(client: CriClient): Promise<undefined> {
  const { images } = await client.image.listImages({});
  printTable(
    ['IMAGE', 'NAMES', 'SIZE'],
    images.map((image) => [
      short(image.id),
      image.repoTags.join(' ') || (image.repoDigests[0] ?? ''),
      `${(Number(image.size) / 1e6).toFixed(1)} MB`,
    ]),
  );
}

async function pull(client: CriClient, [image = '']: readonly string[]): Promise<undefined> {
  console.log((await client.image.pullImage({ image: { image } })).imageRef);
}

async function runImage(client: CriClient, [image = '', ...command]: readonly string[]): Promise<undefined> {
  await ensureImage(client, image);
  const pod = await runPod(client);
  console.log(short(await runContainer(client, pod, { image, command })));
}

async function showLog(client: CriClient, [id = '']: readonly string[]): Promise<undefined> {
  const { logPath } = await containerStatus(client, id);
  for (const line of readFileSync(logPath, 'utf8').split('\n')) console.log(line.split(' ').slice(3).join(' '));
}

async function exec(client: CriClient, [id = '', ...command]: readonly string[]): Promise<number> {
  const { code, stdout, stderr } = await execSync(client, id, command);
  process.stdout.write(stdout);
  process.stderr.write(stderr);
  return code;
}

async function inspect(client: CriClient, [containerId = '']: readonly string[]): Promise<undefined> {
  const { status, info } = await client.runtime.containerStatus({ containerId, verbose: true });
  const text = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? value.toString() : value);
  console.log(JSON.stringify({ status, info: JSON.parse(info['info'] ?? 'null') as unknown }, text, 2));
}

async function stop(client: CriClient, [containerId = '']: readonly string[]): Promise<undefined> {
  await client.runtime.stopContainer({ containerId, timeout: 10n });
}

async function remove(client: CriClient, [id = '']: readonly string[]): Promise<undefined> {
  await removePod(client, id);
}

function nameOf(values: Readonly<Record<string, number>>, value: number): string {
  return Object.keys(values).find((name) => values[name] === value) ?? String(value);
}

function since(nanoseconds: bigint): string {
  const seconds = Math.round(Date.now() / 1000 - Number(nanoseconds / 1_000_000_000n));
  return seconds < 120 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
}

function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => (row[column] ?? '').length)));
  for (const row of [head, ...rows])
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    );
}
