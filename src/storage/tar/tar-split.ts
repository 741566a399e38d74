import { isUtf8 } from 'node:buffer';
import { Crc64 } from './crc64.ts';

const maxSegment = 1024 * 1024;

/**
 * Writes the tar-split description of an archive: JSON lines that hold everything but the files' content, so that the
 * archive can be put together again byte for byte from the unpacked layer.
 */
export class TarSplitWriter {
  readonly #write: (line: string) => void;
  #segment: Buffer[] = [];
  #segmentLength = 0;
  #position = 0;
  #crc: Crc64 | undefined;
  #file: { readonly name: Buffer; readonly size: number } | undefined;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  raw(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += maxSegment) {
      const piece = bytes.subarray(at, at + maxSegment);
      if (this.#segmentLength + piece.length > maxSegment) this.#flush();
      this.#segment.push(Buffer.from(piece));
      this.#segmentLength += piece.length;
    }
  }

  startFile(name: Buffer, size: number): void {
    this.#flush();
    this.#file = { name, size };
    this.#crc = size > 0 ? new Crc64() : undefined;
  }

  data(bytes: Uint8Array): void {
    this.#crc?.update(bytes);
  }

  endFile(): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    const name = isUtf8(file.name)
      ? `"name":${JSON.stringify(file.name.toString())}`
      : `"name_raw":"${file.name.toString('base64')}"`;
    const size = file.size > 0 ? `,"size":${file.size}` : '';
    const payload = this.#crc === undefined ? 'null' : `"${this.#crc.digest().toString('base64')}"`;
    this.#write(`{"type":1,${name}${size},"payload":${payload},"position":${this.#position++}}\n`);
  }

  end(): void {
    this.#flush();
  }

  #flush(): void {
    if (this.#segmentLength === 0) return;
    const payload = Buffer.concat(this.#segment).toString('base64');
    this.#write(`{"type":2,"payload":"${payload}","position":${this.#position++}}\n`);
    this.#segment = [];
    this.#segmentLength = 0;
  }
}
