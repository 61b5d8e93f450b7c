/*
 * The scenarios of emulation.c. Each is alone in its process, on a node that is freshly booted; whatever is
 * wrong aborts.
 */
#ifndef EMULATION_H
#define	EMULATION_H

/* Of the node. */
extern const char *root;

/* So many zones, zone-0 and on, installed. */
void configure(int count);

/* emulation-events.c: the addon's queue. */
void events(void);

/* emulation-races.c: many threads and processes on one node, and one that was killed. */
void threads(void);
void dead_writer(void);

#endif
