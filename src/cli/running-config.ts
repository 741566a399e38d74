import { wrap } from '../base/errors.ts';
import type { Logger, LogSink } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import type { FlagValues } from '../config/flags.ts';
import type { Host } from '../config/host.ts';
import { loadFiles } from '../config/load.ts';
import { parseFilter, parseLevel } from '../config/log-settings.ts';
import { printEffective } from '../config/print-effective.ts';
import { reloadConfig } from '../config/reload.ts';

/** The configuration of a daemon while it runs: what was validated at start, changed by reloads. */
export class RunningConfig {
  config: Config;
  readonly flags: FlagValues;
  readonly log: Logger;
  readonly sink: LogSink;
  readonly #host: Host;

  constructor(options: { config: Config; flags: FlagValues; log: Logger; sink: LogSink; host: Host }) {
    this.config = options.config;
    this.flags = options.flags;
    this.log = options.log;
    this.sink = options.sink;
    this.#host = options.host;
  }

  get env(): Host['env'] {
    return this.#host.env;
  }

  /**
   * Reads the files again, as SIGHUP asks for. Never throws: what cannot be used is one error line, and the steps
   * before it stay applied. The level and filter of the log change with it.
   */
  reload(): void {
    const error = this.#apply();
    if (error === undefined) this.log.info(() => `Configuration reload completed\n${printEffective(this.config)}`);
    else this.log.error('Unable to reload configuration', error);
  }

  #apply(): unknown {
    try {
      const files = loadFiles(this.#host, this.flags, this.log).config;
      const { config, error } = reloadConfig(this.config, files, { host: this.#host, log: this.log });
      this.config = config;
      this.sink.level = parseLevel(config.runtime.logLevel);
      this.sink.filter = parseFilter(config.runtime.logFilter);
      return error;
    } catch (error) {
      return wrap('read configuration', error);
    }
  }
}
