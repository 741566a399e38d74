import { setTimeout as sleep } from 'node:timers/promises';
import { stageFolder } from '../run/stage.ts';
import { startFloor } from './floor.ts';
import { connectLightly } from './light-client.ts';
import { median, percentiles, type Percentiles } from './statistics.ts';
import { rate, type RunningTemplate } from './template.ts';

/** execSync and the runtime's own exec by hand, with the same gaps. */
export interface ExecTimes {
  readonly gapMs: number;
  readonly own: Percentiles;
  readonly floor: Percentiles;
  /** Difference of the medians, ms. */
  readonly overMs: number;
}

/** They take turns, so that both see the same machine; medians over all rounds. */
export async function execTimes(
  socket: string,
  { containerId, template }: RunningTemplate,
  { gapMs, count }: { gapMs: number; count: number },
): Promise<ExecTimes> {
  using client = connectLightly(socket);
  using floor = startFloor(template, `${stageFolder()}/floor-times`);
  const own: number[] = [];
  const byHand: number[] = [];
  const warmUps = 3;
  for (let round = -warmUps; round < count; round++) {
    const begin = performance.now();
    await client.execSync(containerId, ['true']);
    const time = performance.now() - begin;
    await sleep(gapMs);
    const floorTime = await floor.exec(containerId);
    await sleep(gapMs);
    if (round < 0) continue;
    own.push(time);
    byHand.push(floorTime);
  }
  const overMs = Math.round((percentiles(own).p50 - percentiles(byHand).p50) * 100) / 100;
  return { gapMs, own: percentiles(own), floor: percentiles(byHand), overMs };
}

export interface ExecRates {
  /** Commands per second. */
  readonly own: number;
  readonly floor: number;
  /** Median of the rounds' own ratios. */
  readonly ratio: number;
}

/** So many clients at once, each with a connection of its own, and as many programs by hand. */
export async function execRates(
  socket: string,
  { containerId, template }: RunningTemplate,
  { clients, each, rounds }: { clients: number; each: number; rounds: number },
): Promise<ExecRates> {
  const connections = Array.from({ length: clients }, () => connectLightly(socket));
  const floors = Array.from({ length: clients }, (_, index) =>
    startFloor(template, `${stageFolder()}/floor-rate-${index}`),
  );
  const own: number[] = [];
  const byHand: number[] = [];
  for (let round = 0; round < rounds; round++) {
    own.push(await rate(clients, each, (index) => connections[index]?.execSync(containerId, ['true'])));
    byHand.push(await rate(clients, each, (index) => floors[index]?.exec(containerId)));
  }
  for (const item of [...connections, ...floors]) item[Symbol.dispose]();
  const ratios = own.map((value, round) => value / (byHand[round] ?? 1));
  return { own: median(own), floor: median(byHand), ratio: median(ratios) };
}
