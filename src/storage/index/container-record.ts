import { formatTimeNs, parseTimeNs } from '../../base/clock.ts';
import type { ContainerRecord, NewContainer } from '../store.ts';
import { FieldError, idMapField, idMapJson, objectField, textField, textListField } from './json-fields.ts';
import type { JsonObject } from './json-fields.ts';

/** A container as the index has it. */
export interface IndexedContainer extends ContainerRecord {
  readonly isVolatile: boolean;
}

export function parseContainer(raw: JsonObject): IndexedContainer {
  const id = textField(raw, 'id');
  // Other programs choose their own ids; what would not be one path component is refused.
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(id)) throw new FieldError(`container id "${id}" is not valid`);
  const flags = objectField(raw, 'flags');
  return {
    id,
    names: textListField(raw, 'names'),
    imageId: textField(raw, 'image'),
    layerId: textField(raw, 'layer'),
    metadata: textField(raw, 'metadata'),
    createdNs: parseTimeNs(textField(raw, 'created')) ?? 0n,
    mountLabel: typeof flags['MountLabel'] === 'string' ? flags['MountLabel'] : '',
    uidMap: idMapField(raw, 'uidmap'),
    gidMap: idMapField(raw, 'gidmap'),
    isVolatile: flags['Volatile'] === true,
  };
}

export function containerJson(container: NewContainer, layerId: string, createdNs: bigint): JsonObject {
  const raw: JsonObject = { id: container.id };
  if (container.names.length > 0) raw['names'] = container.names;
  raw['image'] = container.imageId;
  raw['layer'] = layerId;
  if (container.metadata !== '') raw['metadata'] = container.metadata;
  raw['created'] = formatTimeNs(createdNs);
  if (container.uidMap.length > 0) raw['uidmap'] = idMapJson(container.uidMap);
  if (container.gidMap.length > 0) raw['gidmap'] = idMapJson(container.gidMap);
  raw['flags'] = { MountLabel: container.mountLabel, ProcessLabel: '', Volatile: true };
  return raw;
}
