import assert from 'node:assert/strict';
import { test } from 'node:test';
import { controlAnnotation, filterAnnotations } from './annotation-filter.ts';

function filter(annotations: Record<string, string>, ...allowed: string[]): string[] {
  return [...filterAnnotations(new Map(Object.entries(annotations)), allowed).keys()];
}

test('filterAnnotations removes control annotations that are not listed, with all that start like them', () => {
  const annotations = {
    'umask.crio.io': '077',
    'umask.crio.io/x': '1',
    'io.kubernetes.cri-o.umask': '1',
    bundled: '1',
    note: 'x',
  };
  assert.deepEqual(filter(annotations), ['note']);
  assert.deepEqual(filter(annotations, 'umask.crio.io'), ['umask.crio.io', 'umask.crio.io/x', 'note']);
});

test('CVE-2023-6476, CVE-2024-3154: cgroup and systemd annotations need permission', () => {
  const annotations = {
    'io.kubernetes.cri-o.UnifiedCgroup.ctr': 'memory.max=max',
    'unified-cgroup.crio.io/ctr': 'memory.max=max',
    'org.systemd.property.ExecStart': 'x',
    'org.criu.config': '/x',
  };
  assert.deepEqual(filter(annotations), []);
});

test('annotations of the runtime crun are not taken from users', () => {
  const annotations = { 'run.oci.seccomp_bpf_data': 'x', 'run.oci.hooks.stdout': '/etc/x', 'run.oci.handler': 'wasm' };
  assert.deepEqual(filter(annotations), []);
  // a node may allow wasm, but nothing may replace the seccomp filter
  assert.deepEqual(filter(annotations, 'run.oci.'), ['run.oci.hooks.stdout', 'run.oci.handler']);
});

test('controlAnnotation prefers the form for the container, then the name of today', () => {
  const annotations = new Map([
    ['io.kubernetes.cri-o.umask', 'old'],
    ['umask.crio.io', 'new'],
    ['io.kubernetes.cri-o.UnifiedCgroup.ctr', 'dot'],
    ['unified-cgroup.crio.io', 'plain'],
  ]);
  assert.equal(controlAnnotation(annotations, 'umask.crio.io'), 'new');
  assert.equal(controlAnnotation(annotations, 'unified-cgroup.crio.io', 'ctr'), 'dot');
  assert.equal(controlAnnotation(annotations, 'unified-cgroup.crio.io', 'other'), 'plain');
});
