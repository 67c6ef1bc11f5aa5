/** Waits for some work, and counts how often other things could run meanwhile. */
export async function turnsDuring(work: Promise<unknown>): Promise<number> {
  let turns = 0;
  let isOver = false;
  const end = () => {
    isOver = true;
  };
  work.then(end, end);
  for (; !isOver; turns++) await new Promise((resolve) => setImmediate(resolve));
  await work;
  return turns;
}
