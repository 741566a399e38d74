import { bind, invoke } from './libc.ts';
import type { Pointer } from './libc.ts';

/** asm-generic/ioctls.h: the same on x86-64 and arm64. */
const TIOCSWINSZ = 0x5414;
const TCGETS = 0x5401;
/** struct termios of the kernel, ioctl_tty(2): 36 bytes; c_lflag, and c_cc[VEOF]. */
const termiosSize = 64;
const localFlagsAt = 12;
const endOfFileAt = 17 + 4;
const ICANON = 2;

const c = {
  ioctl: bind<(fd: number, request: number, argument: Pointer) => number>(
    'int ioctl(int fd, ulong request, void *argument)',
  ),
};

/** Characters, each 1 to 65535. */
export interface TerminalSize {
  readonly width: number;
  readonly height: number;
}

/** TIOCSWINSZ, ioctl_tty(2): the programs on the terminal get SIGWINCH. */
export function setTerminalSize(fd: number, { width, height }: TerminalSize): void {
  const winsize = Buffer.alloc(8);
  winsize.writeUInt16LE(height, 0);
  winsize.writeUInt16LE(width, 2);
  invoke('ioctl', undefined, () => c.ioctl(fd, TIOCSWINSZ, winsize));
}

/**
 * The character that ends the input on this terminal (either side of it): a terminal has no half-close. Undefined when
 * its program reads raw characters, of which none means that.
 */
export function endOfInputCharacter(fd: number): number | undefined {
  const termios = Buffer.alloc(termiosSize);
  invoke('ioctl', undefined, () => c.ioctl(fd, TCGETS, termios));
  const isCanonical = (termios.readUInt32LE(localFlagsAt) & ICANON) !== 0;
  return isCanonical ? termios[endOfFileAt] : undefined;
}
