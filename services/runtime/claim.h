/* SPDX-License-Identifier: PostgreSQL
 *
 * claim.h
 *	  What the database says of a record before its handler is called: is it new?
 */
#ifndef OUTBOX_CLAIM_H
#define OUTBOX_CLAIM_H

/* Of a record of outbox.begin_batch, or of a row of outbox.dead_letter_begin_run. */
typedef enum OutboxClaim
{
	OUTBOX_CLAIM_NONE = 0,	/* not asked, or no answer has come */
	OUTBOX_CLAIM_NEW,		/* claimed: the handler is called */
	OUTBOX_CLAIM_DUPLICATE, /* done before */
	OUTBOX_CLAIM_HELD,		/* waits behind an earlier record of its key */
} OutboxClaim;

/* The claim of one character of the answer; NONE for one that is none of n, d and h. */
extern OutboxClaim outbox_claim_decode(char answer);

#endif /* OUTBOX_CLAIM_H */
