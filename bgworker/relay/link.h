/* SPDX-License-Identifier: PostgreSQL
 *
 * link.h
 *	  The relay's child process, the sender, and the frames to and from it.
 *
 * Process: the relay.  One link at a time.  No call blocks except outbox_link_wait.
 */
#ifndef OUTBOX_LINK_H
#define OUTBOX_LINK_H

#include "src/common/wire.h"

/* Starts the sender; ERROR if it cannot be started.  Ends and reaps it when the worker exits. */
extern void outbox_link_start(void);

/*
 * Ends and reaps the sender, drops what is in the pipe, and logs its last lines and how it ended
 * where that was not asked for.  Harmless if there is none.  leave: it has 200 ms to say good-bye
 * to Kafka; else it is killed at once, and for 10 s still counts as alive.
 */
extern void outbox_link_stop(bool leave);

/* Process id of the sender, 0 = none. */
extern int outbox_link_pid(void);

/* How the last sender ended: its exit code or signal, for people; palloc'd or constant. */
extern const char *outbox_link_ending(void);

/*
 * Hands over bytes of whole frames.  They are sent from this memory by
 * outbox_link_pump, one piece at a time: what was given before must be in the pipe.
 */
extern void outbox_link_give(const uint8_t *frames, size_t len);

/* A small frame, copied; goes out before what outbox_link_give gave later. */
extern void outbox_link_give_small(const OutboxWireBuffer *frame);

/* Everything given is in the pipe. */
extern bool outbox_link_idle(void);

/* Sends, receives and logs what can be without waiting.  false: the sender is gone. */
extern bool outbox_link_pump(void);

/* Next whole frame received; its body is valid until the next pump. */
extern bool outbox_link_next(OutboxFrameType *type, OutboxWireReader *body);

/* The next string of a frame, in the current memory context; "" for NULL. */
extern char *outbox_link_text(OutboxWireReader *body);

/* Waits for the latch, the pipe or the time; services interrupts before it returns. */
extern void outbox_link_wait(long timeout_ms);

#endif /* OUTBOX_LINK_H */
