/* SPDX-License-Identifier: PostgreSQL
 *
 * hand.c
 *	  The two chunks the relay has in hand: one is sent, the other is read ahead.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "hand.h"
#include "link.h"
#include "src/fault.h"

#define READ_BUDGET		  2000 /* events read in one turn */
#define READ_AHEAD_BUDGET 500  /* while the pipe also wants to be filled */

void
outbox_hand_make(OutboxHand *hand, const OutboxLetters *letters, const OutboxHolds *holds)
{
	for (int i = 0; i < 2; i++)
	{
		hand->chunks[i].context =
			AllocSetContextCreate(TopMemoryContext, "outbox batch", ALLOCSET_SMALL_SIZES);
		hand->chunks[i].letters = letters;
		hand->chunks[i].holds.known = holds;
	}
	hand->chunk = &hand->chunks[0];
	hand->other = &hand->chunks[1];
}

void
outbox_hand_empty(OutboxHand *hand)
{
	hand->reading = OUTBOX_READING_NONE;
	hand->errand = OUTBOX_ERRAND_NEXT;
	hand->kept_back = 0;
}

void
outbox_hand_drop_ahead(OutboxHand *hand, OutboxWindow *window)
{
	hand->reading = OUTBOX_READING_NONE;
	window->next = window->count = 0;
}

bool
outbox_hand_has_unsent(const OutboxHand *hand, const OutboxWindow *window)
{
	return hand->reading == OUTBOX_READING_AHEAD || window->next < window->count;
}

OutboxHandRead
outbox_hand_read(OutboxHand *hand, OutboxWindow *window)
{
	if (hand->reading == OUTBOX_READING_AHEAD)
	{
		OutboxChunk *sent = hand->chunk;

		hand->chunk = hand->other;
		hand->other = sent;
	}
	else if (hand->reading == OUTBOX_READING_NONE)
		outbox_chunk_start(hand->chunk, window, false);
	hand->reading = OUTBOX_READING_CHUNK;

	if (!hand->chunk->complete && !outbox_chunk_read(hand->chunk, window, READ_BUDGET, false))
		return OUTBOX_HAND_REWRITTEN;
	if (!hand->chunk->complete)
		return OUTBOX_HAND_MORE;
	hand->reading = OUTBOX_READING_NONE;
	return OUTBOX_HAND_WHOLE;
}

bool
outbox_hand_read_ahead(OutboxHand *hand, OutboxWindow *window)
{
	if (hand->errand != OUTBOX_ERRAND_NEXT)
		return false;
	if (hand->reading != OUTBOX_READING_AHEAD)
	{
		if (window->next >= window->count)
			return false;
		outbox_chunk_start(hand->other, window, false);
		hand->reading = OUTBOX_READING_AHEAD;
	}
	if (hand->other->complete)
		return false;
	if (!outbox_chunk_read(hand->other, window, READ_AHEAD_BUDGET, false))
	{
		/* what is on its way is not touched by this; its window ends here */
		hand->reading = OUTBOX_READING_NONE;
		window->count = window->next;
	}
	return true;
}

void
outbox_hand_read_again(OutboxHand *hand, OutboxWindow *window, const OutboxBatchRow *row)
{
	OutboxChunk *chunk = hand->chunk;

	hand->reading = OUTBOX_READING_NONE;
	outbox_chunk_start(chunk, window, true);
	while (!chunk->complete)
	{
		CHECK_FOR_INTERRUPTS();
		if (!outbox_chunk_read(chunk, window, READ_BUDGET, true))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("an event table was rewritten while batch " INT64_FORMAT
							" was read again",
							row->batch_no)));
	}
	chunk->row.batch_no = row->batch_no;
	chunk->row.nonce = row->nonce;
	chunk->row.left_out = row->left_out;
	chunk->row.prepared_at = row->prepared_at;
}

void
outbox_hand_give(OutboxHand *hand)
{
	const OutboxWireBuffer *frames = &hand->chunk->frames;

	outbox_link_give(frames->data, frames->len - hand->kept_back);
}

bool
outbox_hand_give_rest(OutboxHand *hand)
{
	const OutboxWireBuffer *frames = &hand->chunk->frames;

	if (hand->kept_back == 0 || !outbox_link_idle())
		return false;
	outbox_link_give(frames->data + frames->len - hand->kept_back, hand->kept_back);
	hand->kept_back = 0;
	return true;
}
