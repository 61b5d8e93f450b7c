/*
 * Reads parsed JSON into typed values: the configuration file, the bodies of admin requests, reports of our own.
 *
 * Programs that do not go to a node use zod: to load it takes 66 to 77 ms of CPU and 11 MiB (zod/mini no less) of every
 * start of the daemon and of every mdatactl.
 */

/** JSON in which lines that begin with `//` are comments, as in the example of the settings. @throws SyntaxError */
export function parseCommentedJson(json: string): unknown {
  // Empty lines in their places: the parser's error may name a line of the file.
  return JSON.parse(json.replace(/(^|\n)[ \t\r]*\/\/[^\n]*/g, '$1'));
}

/** Takes an unknown value and returns the typed one. @throws ReadError that names each faulty member by its path */
export type Reader<T> = (value: unknown) => T;

interface Problem {
  /** Names of members and numbers of elements; empty: the whole value. */
  readonly path: readonly string[];
  readonly message: string;
}

/** A value is not what was wanted: `limits.connections: what is needed; ...` */
class ReadError extends Error {
  constructor(readonly problems: readonly Problem[]) {
    const texts = problems.map(({ path, message }) =>
      path.length === 0 ? message : `${path.join('.')}: ${message}`,
    );
    super(texts.join('; '));
    this.name = 'ReadError';
  }
}

/** What a ReadError says; throws whatever else it is given. */
export function problemsIn(err: unknown): string {
  return caught(err).message;
}

function caught(err: unknown): ReadError {
  if (err instanceof ReadError) {
    return err;
  }
  throw err;
}

/** @param least @param most bounds, inclusive */
export function number(least: number, most: number): Reader<number> {
  return (value) =>
    typeof value === 'number' && value >= least && value <= most
      ? value
      : refuse(`a number from ${least} to ${most} is needed`);
}

/** As `number`, without a fraction. */
export function whole(least: number, most: number): Reader<number> {
  return (value) =>
    typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most
      ? value
      : refuse(`a whole number from ${least} to ${most} is needed`);
}

export function flag(): Reader<boolean> {
  return (value) => (typeof value === 'boolean' ? value : refuse('true or false is needed'));
}

/** @param wanted says what is needed, where a pattern restricts the text */
export function text(pattern?: RegExp, wanted = ''): Reader<string> {
  return (value) => {
    if (typeof value !== 'string') {
      return refuse('a string is needed');
    }
    return pattern?.test(value) === false ? refuse(wanted) : value;
  };
}

export function oneOf<const T extends string>(words: readonly T[]): Reader<T> {
  return (value) =>
    words.find((word) => word === value) ?? refuse(`one of ${words.join(', ')} is needed`);
}

export function list<T>(element: Reader<T>, most = Infinity): Reader<T[]> {
  return (value) => {
    if (!Array.isArray(value)) {
      return refuse('an array is needed');
    }
    if (value.length > most) {
      return refuse(`${most} elements are the most`);
    }
    const problems: Problem[] = [];
    const elements = value.flatMap((each: unknown, at) =>
      collect(String(at), problems, () => [element(each)]),
    );
    if (problems.length > 0) {
      throw new ReadError(problems);
    }
    return elements;
  };
}

/** A member that may be absent. */
export function optional<T>(reader: Reader<T>): Reader<T | undefined> {
  return (value) => (value === undefined ? undefined : reader(value));
}

/** A member that may be absent, and what it is then. */
export function either<T>(reader: Reader<T>, absent: T): Reader<T> {
  return (value) => (value === undefined ? absent : reader(value));
}

/** A member that earlier versions had. @param why it went */
export function removed(why: string): Reader<undefined> {
  return (value) => (value === undefined ? undefined : refuse(`was removed: ${why}`));
}

/** An object with these members and no other. Absent, it reads as an empty one. */
export function members<R extends Readonly<Record<string, Reader<unknown>>>>(
  readers: R,
): Reader<{ readonly [K in keyof R]: ReturnType<R[K]> }> {
  return (value = {}) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return refuse('an object is needed');
    }
    const given = new Map<string, unknown>(Object.entries(value));
    const problems = [...given.keys()]
      .filter((name) => !Object.hasOwn(readers, name))
      .map((name): Problem => ({ path: [], message: `no member is named ${name}` }));
    const read = Object.entries(readers).flatMap(([name, reader]) =>
      collect(name, problems, () => [[name, reader(given.get(name))] as const]),
    );
    if (problems.length > 0) {
      throw new ReadError(problems);
    }
    // Each name of R is in it, with what its own reader returned.
    return Object.fromEntries(read) as { readonly [K in keyof R]: ReturnType<R[K]> };
  };
}

/** Runs the reader of a part; its problems get the part's name before their own path. */
function collect<T>(name: string, problems: Problem[], read: () => T[]): T[] {
  try {
    return read();
  } catch (err) {
    for (const { path, message } of caught(err).problems) {
      problems.push({ path: [name, ...path], message });
    }
    return [];
  }
}

function refuse(message: string): never {
  throw new ReadError([{ path: [], message }]);
}
