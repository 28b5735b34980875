/* SPDX-License-Identifier: PostgreSQL
 *
 * hand.h
 *	  The two chunks the relay has in hand: one is sent, the other is read ahead.
 *
 * Process: the relay.  What is read ahead is no row yet (I3).
 */
#ifndef OUTBOX_HAND_H
#define OUTBOX_HAND_H

#include "batch.h"
#include "state.h"

typedef enum OutboxReading
{
	OUTBOX_READING_NONE,
	OUTBOX_READING_CHUNK, /* the one to be sent next */
	OUTBOX_READING_AHEAD, /* the other one, while that is on its way */
} OutboxReading;

typedef struct OutboxHand
{
	OutboxChunk	  chunks[2];
	OutboxChunk	 *chunk; /* is sent, or is to be sent next */
	OutboxChunk	 *other;
	OutboxReading reading;
	OutboxErrand  errand;	 /* of chunk */
	size_t		  kept_back; /* bytes at the end of its frames that wait for the row's flush */
} OutboxHand;

/* What came of reading. */
typedef enum OutboxHandRead
{
	OUTBOX_HAND_MORE, /* its end is not read yet */
	OUTBOX_HAND_WHOLE,
	OUTBOX_HAND_REWRITTEN, /* a leaf got new storage: the window must be opened anew */
} OutboxHandRead;

/* Once, zeroed.  letters, holds: the relay's, for both chunks. */
extern void outbox_hand_make(OutboxHand *hand, const OutboxLetters *letters,
							 const OutboxHolds *holds);

/* Nothing is in hand: what was read is forgotten, what was sent is on its own. */
extern void outbox_hand_empty(OutboxHand *hand);

/* Forgets what was read ahead, and the window's rest with it, which is to be opened anew. */
extern void outbox_hand_drop_ahead(OutboxHand *hand, OutboxWindow *window);

/* Are there events of the window, read ahead or not, that are in no row yet? */
extern bool outbox_hand_has_unsent(const OutboxHand *hand, const OutboxWindow *window);

/* Own transaction.  Reads a piece of the next chunk, which may have been read ahead. */
extern OutboxHandRead outbox_hand_read(OutboxHand *hand, OutboxWindow *window);

/*
 * Own transaction.  Reads a piece of the chunk after the one that is sent; false: there is nothing
 * to be read now.
 */
extern bool outbox_hand_read_ahead(OutboxHand *hand, OutboxWindow *window);

/*
 * Own transactions.  Reads all events of an old row, whose window is open.  ERROR when a leaf is
 * rewritten meanwhile.
 */
extern void outbox_hand_read_again(OutboxHand *hand, OutboxWindow *window,
								   const OutboxBatchRow *row);

/* Gives the chunk's frames to the link, but for what is kept back. */
extern void outbox_hand_give(OutboxHand *hand);

/* Gives what was kept back, once all before it is in the pipe; false: nothing to be given now. */
extern bool outbox_hand_give_rest(OutboxHand *hand);

#endif /* OUTBOX_HAND_H */
