import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { hasCode } from '../base/errors.ts';
import { isJsonArray, isJsonObject } from '../base/go-json.ts';
import type { Json } from '../base/go-json.ts';
import type { Logger } from '../base/log.ts';

/** What is needed of a handler to end and remove containers that it has, when the configuration has lost it. */
export interface RecordedHandler {
  readonly handler: string;
  readonly runtimePath: string;
  /** As configured; `` means the default for the program. */
  readonly runtimeRoot: string;
  readonly monitorPath: string;
  readonly monitorEnv: readonly string[];
}

/** Handlers that earlier daemons had, oldest first; what cannot be read is none. */
export function readHandlers(file: string, log: Logger): RecordedHandler[] {
  try {
    const list: Json = JSON.parse(readFileSync(file, 'utf8'));
    return isJsonArray(list) ? list.flatMap(parseHandler) : [];
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) log.warn(`read handlers of earlier configurations from "${file}"`, error);
    return [];
  }
}

function parseHandler(value: Json): RecordedHandler[] {
  if (!isJsonObject(value)) return [];
  const { handler, runtimePath, runtimeRoot, monitorPath, monitorEnv } = value;
  const isRight =
    typeof handler === 'string' &&
    typeof runtimePath === 'string' &&
    typeof runtimeRoot === 'string' &&
    typeof monitorPath === 'string' &&
    isJsonArray(monitorEnv);
  if (!isRight) return [];
  const env = monitorEnv.filter((entry) => typeof entry === 'string');
  return [{ handler, runtimePath, runtimeRoot, monitorPath, monitorEnv: env }];
}

/** It lies where a reboot empties, as the containers' own state does. A failure is logged: the daemon works without. */
export function writeHandlers(file: string, handlers: readonly RecordedHandler[], log: Logger): void {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
    writeFileSync(`${file}.tmp`, JSON.stringify(handlers), { mode: 0o600 });
    renameSync(`${file}.tmp`, file);
  } catch (error) {
    log.warn(`write handlers to "${file}"`, error);
  }
}
