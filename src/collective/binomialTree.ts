/** A rank's place: its children are at distances 1, 2, 4, ... up to the one at which its parent is. */
export function binomialTree(rank: number, size: number): { parent: number | undefined; children: number[] } {
  const children: number[] = [];
  for (let distance = 1; distance < size; distance *= 2) {
    if (rank % (2 * distance) !== 0) return { parent: rank - distance, children };
    if (rank + distance < size) children.push(rank + distance);
  }
  return { parent: undefined, children };
}
