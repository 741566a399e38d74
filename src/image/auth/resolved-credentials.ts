/** What to present to one endpoint. Never logged; `source` may be. */
export interface ResolvedCredentials {
  readonly username: string;
  readonly password: string;
  readonly identityToken: string;
  readonly registryToken: string;
  /** Where they come from, for error texts: `auth file "/x", entry "quay.io/a"`. */
  readonly source: string;
}

export const anonymous: ResolvedCredentials = {
  username: '',
  password: '',
  identityToken: '',
  registryToken: '',
  source: 'no credentials',
};

/** There is nothing in it to present; its source may say why. */
export function isAnonymous(credentials: Omit<ResolvedCredentials, 'source'>): boolean {
  const { username, password, identityToken, registryToken } = credentials;
  return username === '' && password === '' && identityToken === '' && registryToken === '';
}
