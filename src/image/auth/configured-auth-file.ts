import type { Config } from '../../config/config.ts';

export type AuthFileSettings = Pick<Config['image'], 'globalAuthFile' | 'pauseImage' | 'pauseImageAuthFile'>;

/** The pause image may have a file of its own. Undefined when none is configured. */
export function configuredAuthFile(image: AuthFileSettings, reference: string): string | undefined {
  const { globalAuthFile, pauseImage, pauseImageAuthFile } = image;
  const file = reference === pauseImage && pauseImageAuthFile !== '' ? pauseImageAuthFile : globalAuthFile;
  return file === '' ? undefined : file;
}
