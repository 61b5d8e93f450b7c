/*
 * How V8 keeps what the start makes. To be loaded before all else, as it takes effect by that.
 *
 * Nearly all that a start makes stays, and none of it is asked for twice. V8 takes that for a busy program
 * and widens the room for young objects from 2 to 32 MiB, which an idle agent then keeps for good: as much
 * as 2,000 zones weigh. So the room is held as it is until the start is over; under load it grows as ever.
 */
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--semi-space-growth-factor=1');

/** The start is over. */
export function letHeapGrow(): void {
  setFlagsFromString('--semi-space-growth-factor=2');
}
