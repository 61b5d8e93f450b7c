/*
 * A cache bounded by the weight of its entries, which evicts by second chance (the clock algorithm): using an entry,
 * which each request does, only marks it.
 */

interface Entry<V> {
  readonly value: V;
  readonly weight: number;
  used: boolean;
}

export class Lru<V> {
  private readonly entries = new Map<string, Entry<V>>();
  private total = 0;

  /** @param maxWeight in the unit of `set`'s weight; a single heavier entry is kept all the same */
  constructor(private readonly maxWeight: number) {}

  get(key: string): V | undefined {
    const entry = this.entries.get(key);
    if (entry !== undefined) {
      entry.used = true;
    }
    return entry?.value;
  }

  set(key: string, value: V, weight: number): void {
    this.delete(key);
    this.entries.set(key, { value, weight, used: false });
    this.total += weight;
    // A Map keeps the order of insertion, and yields what is added while it is iterated.
    for (const [oldest, entry] of this.entries) {
      if (this.total <= this.maxWeight || this.entries.size === 1) {
        break;
      }
      if (entry.used || oldest === key) {
        entry.used = false;
        this.entries.delete(oldest);
        this.entries.set(oldest, entry);
      } else {
        this.delete(oldest);
      }
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
