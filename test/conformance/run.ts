/**
 * critest of cri-tools against the real daemon, once per runtime handler.
 *   node test/conformance/run.ts [--focus REGEXP] [--handler runc|crun]
 * Environment: FOCUS and HANDLER, the same. The last line is `N passed, N failed, N skipped`.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildImages } from '../fixtures/build.ts';
import { startDaemon } from '../run/daemon.ts';
import { repository } from '../run/stage.ts';
import { buildTools, type Tools } from './build.ts';
import { knownReason } from './known.ts';

/** Run over SPDY with all others, and once more over WebSocket. */
const streamingSpecs = 'Streaming|Multiple Containers';
const webSocketFlags = ['-websocket-exec', '-websocket-attach', '-websocket-portforward'];
const digestSpec = 'public image with digest should be pulled and removed';
const logs = join(repository, 'build/logs/conformance');
/** The groups that must pass; what `make test` runs. */
const namedGroups = 'PodSandbox|basic operations|Image Manager|Idempotence|Runtime info|Streaming|Multiple Containers';

interface Spec {
  readonly name: string;
  readonly state: string;
  readonly message: string;
  readonly seconds: number;
}

const { values } = parseArgs({
  options: {
    focus: { type: 'string' },
    handler: { type: 'string' },
    named: { type: 'boolean', default: false },
    inside: { type: 'boolean', default: false },
  },
});
const focus = values.focus ?? (process.env['FOCUS'] || (values.named ? namedGroups : ''));
const handlers = [values.handler ?? (process.env['HANDLER'] || ['crun', 'runc'])].flat();
process.exitCode = values.inside ? await runHandlers() : await enter();

/** Builds first, outside: the stage has no route to anywhere. */
async function enter(): Promise<number> {
  mkdirSync(logs, { recursive: true });
  buildTools((await buildImages('test')).digests);
  const main = join(repository, 'test/run/main.ts');
  const args = [
    main,
    process.execPath,
    import.meta.filename,
    '--inside',
    '--focus',
    focus,
    ...(handlers.length === 1 ? ['--handler', handlers.join('')] : []),
  ];
  const child = spawn(process.execPath, args, { stdio: 'inherit', env: { ...process.env, CRIO_TS_LOGS: logs } });
  return await new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
}

async function runHandlers(): Promise<number> {
  const tools = buildTools((await buildImages('test')).digests);
  const totals = { passed: 0, failed: 0, skipped: 0, unexpected: 0 };
  for (const handler of handlers) {
    for (const spec of await runSuite(tools, handler)) report(handler, spec, totals);
  }
  console.log(`Logs of critest and of the daemon: ${logs}`);
  console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
  return totals.unexpected === 0 && totals.passed > 0 ? 0 : 1;
}

function report(
  handler: string,
  { name, state, message, seconds }: Spec,
  totals: { passed: number; failed: number; skipped: number; unexpected: number },
): void {
  const line = `${handler}  ${name} (${seconds.toFixed(1)} s)`;
  if (state === 'passed') {
    totals.passed++;
    console.log(`ok       ${line}`);
    return;
  }
  const reason = knownReason(handler, name);
  const skipped = state === 'skipped' || state === 'pending';
  if (skipped) totals.skipped++;
  else totals.failed++;
  if (!skipped && reason === undefined) totals.unexpected++;
  console.log(`${skipped ? 'skipped' : 'FAILED '}  ${line}${reason === undefined ? '' : `: known: ${reason}`}`);
  const first = message.split('\n').slice(0, 6).join('\n           ');
  if (first !== '') console.log(`           ${first}`);
}

async function runSuite(tools: Tools, handler: string): Promise<Spec[]> {
  await using daemon = await startDaemon({ defaultRuntime: handler === 'runc' ? 'runc' : 'crun' });
  const common = [
    '-runtime-endpoint',
    `unix://${daemon.socket}`,
    '-runtime-handler',
    handler,
    '-ginkgo.no-color',
    '-ginkgo.v',
  ];
  const focused = focus === '' ? [] : ['-ginkgo.focus', focus];
  const all = await critest(tools.critest, `${handler}`, [...common, ...focused, '-ginkgo.skip', digestSpec]);
  const digest = await critest(tools.critestOwnDigest, `${handler}-digest`, [...common, '-ginkgo.focus', digestSpec]);
  const overWebSocket = await critest(tools.critest, `${handler}-websocket`, [
    ...common,
    ...webSocketFlags,
    '-ginkgo.focus',
    streamingSpecs,
  ]);
  const wanted = new RegExp(focus);
  return [...all, ...digest, ...overWebSocket.map((spec) => ({ ...spec, name: `${spec.name} over WebSocket` }))]
    .filter((spec) => spec.state !== 'skipped' || (spec.message !== '' && wanted.test(spec.name)))
    .filter((spec) => wanted.test(spec.name));
}

async function critest(binary: string, name: string, args: readonly string[]): Promise<Spec[]> {
  const reportFile = join(logs, `critest-${name}.json`);
  const log = openSync(join(logs, `critest-${name}.log`), 'w');
  const child = spawn(
    binary,
    [...args, `-ginkgo.json-report=${reportFile}`, '-ginkgo.timeout=30m', '-test.timeout=30m'],
    { stdio: ['ignore', log, log] },
  );
  const code = await new Promise((resolve) => child.once('exit', resolve));
  closeSync(log);
  try {
    return readReport(reportFile);
  } catch (error) {
    throw new Error(`read the report of critest (exit code ${String(code)}), see "${logs}/critest-${name}.log"`, {
      cause: error,
    });
  }
}

/** The parts of Ginkgo's JSON report that are used here. */
interface GinkgoReport {
  readonly SpecReports: readonly {
    readonly LeafNodeType: string;
    readonly LeafNodeText: string;
    readonly ContainerHierarchyTexts: readonly string[] | null;
    readonly State: string;
    readonly RunTime: number;
    readonly Failure?: { readonly Message?: string };
  }[];
}

function readReport(file: string): Spec[] {
  // The format is Ginkgo's own; the version of Ginkgo is pinned by go.mod.
  const suites = JSON.parse(readFileSync(file, 'utf8')) as readonly GinkgoReport[];
  return suites
    .flatMap((suite) => suite.SpecReports)
    .filter((spec) => spec.LeafNodeType === 'It' || spec.State === 'failed')
    .map((spec) => ({
      name: [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(' ').replace('[k8s.io] ', ''),
      state: spec.State,
      message: spec.Failure?.Message ?? '',
      seconds: spec.RunTime / 1e9,
    }));
}
