/** Resolves in the next turn of the event loop, after what waits for its turn now. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
