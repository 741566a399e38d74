import { constants, setPriority } from 'node:os';
import { SYS_ioprio_set } from './arch.ts';
import { bindSyscall, invoke } from './libc.ts';

const c = {
  ioprioSet: bindSyscall<(number: number, which: number, who: number, priority: number) => number>([
    'int',
    'int',
    'int',
  ]),
};

// linux/ioprio.h
const IOPRIO_WHO_PROCESS = 1;
const IOPRIO_CLASS_IDLE = 3;
const IOPRIO_CLASS_SHIFT = 13;

/**
 * Gives the calling thread only what others leave: nice 19, setpriority(2), and the idle class of ioprio_set(2). Both act
 * on one thread. There is no way back without privileges, so for threads that end.
 */
export function yieldToOthers(): void {
  setPriority(0, constants.priority.PRIORITY_LOW);
  const priority = IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT;
  invoke('ioprio_set', undefined, () => c.ioprioSet(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority));
}
