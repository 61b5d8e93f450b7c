/*
 * A cache bounded by the weight of what it holds, least recently used out first. Used where parsed JSON
 * is kept for zones that ask, while the 4,000 that do not ask hold only bytes.
 */
export class Lru<V> {
  private readonly entries = new Map<string, { readonly value: V; readonly weight: number }>();
  private readonly maxWeight: number;
  private total = 0;

  /** @param maxWeight in the unit of `set`'s weight; a single heavier entry is kept all the same */
  constructor(maxWeight: number) {
    this.maxWeight = maxWeight;
  }

  get weight(): number {
    return this.total;
  }

  get size(): number {
    return this.entries.size;
  }

  get(key: string): V | undefined {
    const entry = this.entries.get(key);
    if (entry === undefined) {
      return undefined;
    }
    // A Map keeps the order of insertion: the first one is the one that was not used for longest.
    this.entries.delete(key);
    this.entries.set(key, entry);
    return entry.value;
  }

  set(key: string, value: V, weight: number): void {
    this.delete(key);
    this.entries.set(key, { value, weight });
    this.total += weight;
    for (const oldest of this.entries.keys()) {
      if (this.total <= this.maxWeight || oldest === key) {
        break;
      }
      this.delete(oldest);
    }
  }

  delete(key: string): void {
    const entry = this.entries.get(key);
    if (entry !== undefined) {
      this.entries.delete(key);
      this.total -= entry.weight;
    }
  }
}
