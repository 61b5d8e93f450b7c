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
 * `deliver` gets the number of events; it must handle them all, and may call any function of this file
 * but sockets_shutdown. The memory must stay until sockets_shutdown is done. 0, -ENOMEM, or -EINVAL
 * where the memory is too small for the events or bytes of one socket, or too large to be numbered.
 */
int sockets_open(uv_loop_t *loop, const sockets_shared_t *shared,
    void (*deliver)(void *, size_t), void *arg, sockets_t **out);

/*
 * Binds a new socket to `path` and listens. The listener's id, or -errno. The file stays when the
 * listener is closed. It is 0600 from the start on Linux; elsewhere the caller has to see to that.
 */
int sockets_listen(sockets_t *sockets, const char *path, int backlog);

/* Executes the first `count` commands: in order, but those that close come last. A closed id is given no others. */
void sockets_execute(sockets_t *sockets, size_t count);

/*
 * A large write that is put together piece by piece: memory of its own is reserved, filled, and sent
 * with one write, or abandoned where `length` is 0. It is unmapped as soon as the kernel has accepted
 * all of it. A connection has one at a time. 0, -ENOMEM, -EBUSY where it has one, or -EBADF for
 * any other id; the other two leave such an id alone.
 */
int sockets_reserve(sockets_t *sockets, int32_t id, size_t length);
void sockets_fill(sockets_t *sockets, int32_t id, size_t at, const char *data, size_t length);
void sockets_commit(sockets_t *sockets, int32_t id, size_t length);

/*
 * Bytes of a connection that its peer has not read just now, as far as the kernel knows: those that are
 * buffered, and on Linux those that it holds, with what it needs to hold them. 0 for any
 * other id.
 */
size_t sockets_undelivered(const sockets_t *sockets, int32_t id);

/*
 * Whether the peer has closed its end, and not only shut down its side of it: nobody will read what is
 * written. Asked of the kernel, since a connection that is not read shows no end.
 */
int sockets_gone(const sockets_t *sockets, int32_t id);

/* Closes everything, delivers nothing more, calls `done` from the loop, and frees itself before that. */
void sockets_shutdown(sockets_t *sockets, void (*done)(void *), void *arg);

#endif
