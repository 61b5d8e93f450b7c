/*
 * Unix sockets that are listened on, and the connections that they accept, on a loop of libuv: many
 * small conversations at the price of their system calls.
 *
 * The reader (JavaScript) and this file share memory (sockets_shared.h) and work in batches:
 *
 *   poll     accept and read fill `events` and `inbox`
 *   then     one `deliver` for all of them; the reader answers with `commands` and `outbox`
 *   then     sockets_execute: the writes, one behind the other, the closes ...
 *
 * So a batch costs two crossings between C and JavaScript, however many connections it is of; and the
 * replies leave when all of them are made, which wakes a peer on another processor once, not each time.
 *
 * Everything here runs on the loop's thread. An id is a connection's or a listener's from the event or
 * call that gave it until its CLOSED was delivered. Commands with any other id are left out: a reader
 * need not know what has been closed meanwhile.
 */
#ifndef SOCKETS_H
#define	SOCKETS_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "sockets_shared.h"

/*
 * `deliver` gets the number of events; it must handle them all, and may call sockets_execute, and what socket_listener.h
 * and socket_connection.h have for the reader. The memory must stay until sockets_shutdown is done. 0, -ENOMEM, or -EINVAL
 * where the memory is too small for the events or bytes of one socket, or too large to be numbered.
 */
int sockets_open(uv_loop_t *loop, const sockets_shared_t *shared,
    void (*deliver)(void *, size_t), void *arg, sockets_t **out);

/* Executes the first `count` commands: in order, but those that close come last. A closed id is given no others. */
void sockets_execute(sockets_t *sockets, size_t count);

/* Closes everything, delivers nothing more, calls `done` from the loop, and frees itself before that. */
void sockets_shutdown(sockets_t *sockets, void (*done)(void *), void *arg);

#endif
