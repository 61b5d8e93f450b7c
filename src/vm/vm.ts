/*
 * A VM object as vminfod tells it: plain JSON of which nothing may be believed.
 */

/** A parsed JSON object. Own properties only: read through `Object.hasOwn`. */
export type JsonObject = Readonly<Record<string, unknown>>;
