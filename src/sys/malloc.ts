import { bindAsync } from './libc.ts';

const trim = bindAsync<[number]>('int malloc_trim(size_t pad)');

/** malloc_trim(3): gives memory that was freed but kept by the allocator back to the kernel. On the thread pool. */
export async function trimMemory(): Promise<void> {
  await trim('malloc_trim', undefined, 0);
}
