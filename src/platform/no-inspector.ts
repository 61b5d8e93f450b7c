/*
 * Keeps Node from starting its inspector on SIGUSR1, which listens on a port of the node's loopback and runs whatever
 * code it is sent, unless somebody listens for that signal. The service's start method says --disable-sigusr1 as
 * well where this Node knows it, for the time until this line runs.
 *
 * A file of its own, as main.ts must load it before all else: imports come before statements.
 */
process.on('SIGUSR1', () => undefined);
