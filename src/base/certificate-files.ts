import { readFileSync, statSync } from 'node:fs';
import type { SecureContextOptions, SecureVersion, TlsOptions } from 'node:tls';
import { messageOf, wrap } from './errors.ts';
import type { Logger } from './log.ts';

export interface TlsSettings {
  /** Whose it is, for people: `stream server`. */
  readonly owner: string;
  readonly cert: string;
  readonly key: string;
  /** Empty: clients need no certificate. */
  readonly ca: string;
  readonly minVersion: SecureVersion;
  /** OpenSSL's names joined by colons; undefined: the default. */
  readonly ciphers: string | undefined;
}

/** Certificate, key and client CA as files, which may be replaced while the daemon runs. */
export class CertificateFiles {
  readonly #settings: TlsSettings;
  #version: string;

  constructor(settings: TlsSettings) {
    this.#settings = settings;
    this.#version = this.#readVersion();
  }

  /** Throws when a file cannot be read. */
  options(): TlsOptions {
    const asksForCertificate = this.#settings.ca !== '';
    return { ...this.#read(), requestCert: asksForCertificate, rejectUnauthorized: asksForCertificate };
  }

  /**
   * Hands over the new content when a file has changed. Files that cannot be read, or do not fit together (one may have been
   * replaced before the other), leave all as it is until they change again.
   */
  reloadIfChanged(use: (context: SecureContextOptions) => void, log: Logger): void {
    const version = this.#readVersion();
    if (version === this.#version) return;
    this.#version = version;
    try {
      use(this.#read());
      log.info(`Using the changed certificate of the ${this.#settings.owner}`);
    } catch (error) {
      log.warn(`reload the certificate of the ${this.#settings.owner}`, error);
    }
  }

  #read(): SecureContextOptions {
    const { owner, cert, key, ca, minVersion, ciphers } = this.#settings;
    try {
      return {
        cert: readFileSync(cert),
        key: readFileSync(key),
        ...(ca === '' ? {} : { ca: readFileSync(ca) }),
        minVersion,
        ...(ciphers === undefined ? {} : { ciphers }),
      };
    } catch (error) {
      throw wrap(`read the certificate of the ${owner}`, error);
    }
  }

  /** Changes with each replacement of a file. */
  #readVersion(): string {
    const { cert, key, ca } = this.#settings;
    const files = [cert, key, ca].filter((path) => path !== '');
    return files.map((path) => versionOf(path)).join();
  }
}

function versionOf(path: string): string {
  try {
    const { dev, ino, size, mtimeNs } = statSync(path, { bigint: true });
    return `${dev}:${ino}:${size}:${mtimeNs}`;
  } catch (error) {
    return messageOf(error);
  }
}
