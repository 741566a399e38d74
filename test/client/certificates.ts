import { join } from 'node:path';
import { run } from '../fixtures/process.ts';

/** An authority in a folder of its own, as a client or a server trusts it. */
export interface Authority {
  readonly certificate: string;
  /** Makes a key and a certificate for 127.0.0.1 and localhost; the paths of both. */
  issue(name: string): { readonly cert: string; readonly key: string };
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** Made with openssl(1). RSA keys where a test needs a cipher suite of them. */
export function makeAuthority(folder: string, name: string): Authority {
  const file = (base: string) => join(folder, base);
  const certificate = file(`${name}.pem`);
  const key = file(`${name}.key`);
  run(
    'openssl',
    ['req', '-x509', ...newKey, '-subj', `/CN=${name}`, '-days', '2', '-keyout', key, '-out', certificate],
    {
      cwd: folder,
    },
  );
  return {
    certificate,
    issue(subject) {
      const [cert, own, request] = [file(`${subject}.pem`), file(`${subject}.key`), file(`${subject}.csr`)];
      const names = 'subjectAltName=IP:127.0.0.1,DNS:localhost';
      const rsa = ['-newkey', 'rsa:2048', '-nodes'];
      run('openssl', ['req', ...rsa, '-subj', `/CN=${subject}`, '-addext', names, '-keyout', own, '-out', request]);
      const signing = ['-CA', certificate, '-CAkey', key, '-CAcreateserial', '-copy_extensions', 'copy', '-days', '2'];
      run('openssl', ['x509', '-req', '-in', request, ...signing, '-out', cert]);
      return { cert, key: own };
    },
  };
}
