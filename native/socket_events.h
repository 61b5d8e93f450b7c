/*
 * What happened to slots and is not delivered yet: for the files behind sockets.h.
 */
#ifndef SOCKET_EVENTS_H
#define	SOCKET_EVENTS_H

#include "sockets_impl.h"

/* Before anything can happen, and at the end. The two handles count among those of the sockets. */
void socket_events_open(sockets_t *sockets);
void socket_events_close(sockets_t *sockets, uv_close_cb closed);

/* To be delivered before the loop sleeps. Nothing happens any more after sockets_shutdown. */
void socket_happens(slot_t *slot, socket_event_t event);

/* The connection is of no more use: its owner is told once, and closes it. `err` is 0 or negative. */
void socket_fails(slot_t *slot, int err);

/* Ends the inbox's round before the loop sleeps, though nothing may happen in it any more. */
void socket_events_arm(sockets_t *sockets);

#endif
