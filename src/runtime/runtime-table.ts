import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { hasCode } from '../base/errors.ts';
import { emptyHandler, type Config } from '../config/config.ts';
import { createRuntimes, stateRootOf, type CreateRuntimesOptions, type HandlerRuntime } from './create-runtimes.ts';
import { readHandlers, writeHandlers, type RecordedHandler } from './handler-record.ts';
import type { ContainerRuntime } from './runtime.ts';

type Handlers = Config['runtime']['runtimes'];

/** The runtimes of all handlers, which a reload of the configuration changes. */
export interface RuntimeTable {
  /**
   * By handler name. A handler that was taken out of the configuration, while the daemon ran or while none did, stays for
   * the containers it has.
   */
  readonly runtimes: ReadonlyMap<string, ContainerRuntime>;
  /**
   * Handlers that are new or changed are made; their containers of before keep the program and the folder that they were
   * created with. Other options of the configuration are not looked at.
   */
  reload(config: Config): Promise<void>;
}

export interface RuntimeTableOptions extends CreateRuntimesOptions {
  /** Where handlers are remembered until the next boot. */
  readonly recordFile: string;
}

export async function createRuntimeTable(options: RuntimeTableOptions): Promise<RuntimeTable> {
  const known = new Set<HandlerRuntime>();
  const current = new Map<string, HandlerRuntime>();
  const owners = new Map<string, HandlerRuntime>();
  const runtimes = new Map<string, ContainerRuntime>();
  let handlers = options.config.runtime.runtimes;
  const { recordFile, log } = options;
  let recorded = readHandlers(recordFile, log).filter(hasContainers);
  // The oldest first: what is configured now comes last, and is what new containers get.
  for (const one of recorded) {
    if (!isAmong(recordOf(handlers), one)) await takeHandlers(options.config, handlersOf(one));
  }
  await takeHandlers(options.config, handlers);
  return {
    runtimes,
    async reload(config) {
      const before = handlers;
      const changed = [...config.runtime.runtimes].filter(
        ([name, value]) => !isDeepStrictEqual(before.get(name), value),
      );
      handlers = config.runtime.runtimes;
      if (changed.length > 0) await takeHandlers(config, new Map(changed));
    },
  };

  async function takeHandlers(config: Config, taken: Handlers): Promise<void> {
    const made = await createRuntimes({
      ...options,
      config: { ...config, runtime: { ...config.runtime, runtimes: taken } },
    });
    for (const [name, handler] of made) {
      known.add(handler);
      current.set(name, handler);
      if (!runtimes.has(name)) runtimes.set(name, followCurrent(name));
    }
    recorded = [...recorded, ...recordOf(taken).filter((one) => !isAmong(recorded, one))];
    writeHandlers(recordFile, recorded, log);
  }

  /** Each call about a container goes to the runtime that the container has. */
  function followCurrent(name: string): ContainerRuntime {
    const newest = (): HandlerRuntime => {
      const found = current.get(name);
      if (found === undefined) throw new RangeError(`no runtime "${name}"`);
      return found;
    };
    const of = (id: string): ContainerRuntime => ownerOf(id, newest()).runtime;
    return {
      handler: name,
      get features() {
        return newest().runtime.features;
      },
      async create(call, create) {
        const owner = newest();
        owners.set(create.id, owner);
        try {
          return await owner.runtime.create(call, create);
        } catch (error) {
          owners.delete(create.id);
          throw error;
        }
      },
      async delete(call, id) {
        await of(id).delete(call, id);
        owners.delete(id);
      },
      start: (call, id) => of(id).start(call, id),
      kill: (call, id, signal, more) => of(id).kill(call, id, signal, more),
      state: (call, id) => of(id).state(call, id),
      pause: (call, id) => of(id).pause(call, id),
      resume: (call, id) => of(id).resume(call, id),
      update: (call, id, resources) => of(id).update(call, id, resources),
      execSync: (call, exec) => of(exec.id).execSync(call, exec),
      execStream: (call, exec) => of(exec.id).execStream(call, exec),
      attach: (call, attach) => of(attach.id).attach(call, attach),
      reopenLog: (call, reopen) => newest().runtime.reopenLog(call, reopen),
    };
  }

  /** Of a container that an earlier daemon created, the state folder tells whose it is. */
  function ownerOf(id: string, newest: HandlerRuntime): HandlerRuntime {
    const owner = owners.get(id);
    if (owner !== undefined || known.size === current.size) return owner ?? newest;
    const has = ({ stateRoot }: HandlerRuntime) =>
      statSync(join(stateRoot, id), { throwIfNoEntry: false }) !== undefined;
    return has(newest) ? newest : ([...known].find(has) ?? newest);
  }
}

function recordOf(handlers: Handlers): RecordedHandler[] {
  return [...handlers].map(([handler, { runtimePath, runtimeRoot, monitorPath, monitorEnv }]) => ({
    handler,
    runtimePath,
    runtimeRoot,
    monitorPath,
    monitorEnv,
  }));
}

function handlersOf({ handler, ...settings }: RecordedHandler): Handlers {
  return new Map([[handler, { ...emptyHandler(), ...settings }]]);
}

function isAmong(handlers: readonly RecordedHandler[], one: RecordedHandler): boolean {
  return handlers.some((other) => isDeepStrictEqual(other, one));
}

function hasContainers(handler: RecordedHandler): boolean {
  try {
    return readdirSync(stateRootOf(handler)).length > 0;
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}
