import type { DescField, DescMessage, MessageShape } from '@bufbuild/protobuf';
import { reflect, type ReflectMessage } from '@bufbuild/protobuf/reflect';

const maxLength = 8192;

/** One line for the log: fields that are set, secrets (`debug_redact` in the protocol) never, cut at 8 KiB. */
export function describeMessage<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>): string {
  const text = JSON.stringify(plain(reflect(desc, message)));
  return text.length > maxLength ? `${text.slice(0, maxLength)}... (${text.length} characters)` : text;
}

function plain(message: ReflectMessage): Record<string, unknown> {
  const out: Record<string, unknown> = Object.create(null);
  for (const field of message.fields) {
    if (!message.isSet(field)) continue;
    out[field.name] = field.proto.options?.debugRedact === true ? '[redacted]' : plainField(message, field);
  }
  return out;
}

function plainField(message: ReflectMessage, field: DescField): unknown {
  switch (field.fieldKind) {
    case 'message':
      return plain(message.get(field));
    case 'list':
      return [...message.get(field)].map(plainValue);
    case 'map':
      return Object.fromEntries([...message.get(field)].map(([key, value]) => [String(key), plainValue(value)]));
    case 'scalar':
    case 'enum':
      return plainValue(message.get(field));
  }
}

function plainValue(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof Uint8Array)
    return Buffer.from(value.buffer, value.byteOffset, Math.min(value.byteLength, 256)).toString();
  if (isReflected(value)) return plain(value);
  return value;
}

function isReflected(value: unknown): value is ReflectMessage {
  return typeof value === 'object' && value !== null && 'desc' in value && 'fields' in value;
}
