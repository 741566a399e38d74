import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { create, toBinary, type DescMessage, type MessageInitShape } from '@bufbuild/protobuf';
import { EncodedMessage } from './dispatch.ts';

/**
 * Encodes lists from cached bytes of their items: an item is encoded once per version, a list of a thousand is joined.
 * Items are remembered weakly, so what leaves the store leaves the cache.
 */
export class EncodedList<Item extends object, Output extends DescMessage> {
  readonly #cache = new WeakMap<Item, { version: number; bytes: Uint8Array }>();
  readonly #output: Output;
  readonly #toMessage: (item: Item) => MessageInitShape<Output>;
  readonly #versionOf: (item: Item) => number;

  constructor(options: {
    output: Output;
    toMessage: (item: Item) => MessageInitShape<Output>;
    /** Changes whenever the message would. */
    versionOf: (item: Item) => number;
  }) {
    this.#output = options.output;
    this.#toMessage = options.toMessage;
    this.#versionOf = options.versionOf;
  }

  /** A message whose only content is a repeated field with these items. */
  encode(items: readonly Item[], fieldNumber: number): EncodedMessage {
    const writer = new BinaryWriter();
    for (const item of items) writer.tag(fieldNumber, WireType.LengthDelimited).bytes(this.#bytesOf(item));
    return new EncodedMessage(writer.finish());
  }

  #bytesOf(item: Item): Uint8Array {
    const version = this.#versionOf(item);
    const cached = this.#cache.get(item);
    if (cached?.version === version) return cached.bytes;
    const bytes = toBinary(this.#output, create(this.#output, this.#toMessage(item)));
    this.#cache.set(item, { version, bytes });
    return bytes;
  }
}
