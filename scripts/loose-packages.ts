/** Packages that stay outside the bundle: koffi loads its native part by path, the others are needed by few and parsed by none else. */
export const loosePackages: readonly string[] = ['koffi', 'openpgp', 'prom-client'];
