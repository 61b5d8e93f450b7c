/*
 * A cache bounded by the weight of what it holds. Used where parsed JSON is kept for zones that ask,
 * while the 4,000 that do not ask hold only bytes.
 *
 * What goes is not quite what was used least recently: one that was used since it was last passed over
 * gets a second chance. So that to use one, which each request does, changes nothing but a mark.
 */
interface Entry<V> {
  readonly value: V;
  readonly weight: number;
  used: boolean;
}

/** Entries by key, as many as weigh no more than the bound together. */
export class Lru<V> {
  private readonly entries = new Map<string, Entry<V>>();
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
    if (entry !== undefined) {
      entry.used = true;
    }
    return entry?.value;
  }

  set(key: string, value: V, weight: number): void {
    this.delete(key);
    this.entries.set(key, { value, weight, used: false });
    this.total += weight;
    // A Map keeps the order of insertion, and hands out what is added while it is walked.
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
