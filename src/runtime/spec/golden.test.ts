import assert from 'node:assert/strict';
import { test } from 'node:test';
import { containerInput, podInput } from '../../../test/golden/inputs.ts';
import { recordedSpec, recordings } from '../../../test/golden/recorded.ts';
import { annotationKey as key } from './annotation-keys.ts';
import { buildContainerSpec } from './container-spec.ts';
import type { Seccomp, Spec } from './oci.ts';
import { buildPodSpec } from './pod-spec.ts';

/**
 * Compares built specs with those that CRI-O wrote for the same requests. Intended differences, each with its reason:
 *
 * - `ociVersion` is what the installed runtime accepts, not always 1.3.0 (crun before 1.14.3 refuses that).
 * - `process.env` names every variable once: CRI-O appends a second PATH (and TERM) when the image sets one too. The
 *   runtimes let the last one win, so programs see the same values.
 * - The seccomp allow list does not repeat `writev` where CRI-O's copy of the list has left-overs of the names that it
 *   takes out (clone, clone3, unshare).
 * - `resources.pids` is left out when there is no limit: crun 1.8.1 writes a limit of -1 as it is and fails on cgroup v1
 *   (`writing file pids.max: Invalid argument`).
 * - JSON maps inside annotations have sorted keys; CRI-O's order is random.
 */

for (const recording of recordings) {
  test(`buildPodSpec gives what CRI-O wrote for the pod of ${recording}`, () => {
    const recorded = recordedSpec(recording, 'pod');
    assert.deepEqual(comparable(buildPodSpec(podInput(recording))), comparable(recorded));
  });

  test(`buildContainerSpec gives what CRI-O wrote for the container of ${recording}`, () => {
    const recorded = recordedSpec(recording, 'container');
    const built = buildContainerSpec(containerInput(recording));
    assert.deepEqual(comparable(built), comparable(recorded));
  });
}

/** Applies the intended differences to a recorded spec; a built one stays as it is. */
function comparable(spec: Spec): unknown {
  const copy = structuredClone(spec);
  if (copy.process?.env) copy.process.env = lastOfEachName(copy.process.env);
  if (copy.linux?.resources?.pids?.limit === -1) delete copy.linux.resources.pids;
  const annotations = copy.annotations ?? {};
  for (const name of [key.labels, key.annotations]) {
    const json = annotations[name];
    if (json !== undefined) annotations[name] = JSON.stringify(sortKeys(JSON.parse(json)));
  }
  if (copy.linux?.seccomp !== undefined) copy.linux.seccomp = comparableSeccomp(copy.linux.seccomp);
  if (copy.linux?.seccomp === null) delete copy.linux.seccomp;
  return copy;
}

/** Most recordings name the file with the same section instead of repeating it. */
function comparableSeccomp(seccomp: Seccomp | string): Seccomp {
  const full = typeof seccomp === 'string' ? recordedSpec('plain', 'container').linux?.seccomp : seccomp;
  assert.ok(full);
  const syscalls = (full.syscalls ?? []).map((rule) => ({ ...rule, names: [...new Set(rule.names)].toSorted() }));
  return { ...full, syscalls };
}

function lastOfEachName(env: readonly string[]): string[] {
  return [...new Map(env.map((entry) => [entry.split('=')[0] ?? '', entry])).values()];
}

function sortKeys(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
