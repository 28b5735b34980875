/* SPDX-License-Identifier: PostgreSQL
 *
 * letters.h
 *	  What the relay knows of its dead letters: events that are left out (I7), keys whose
 *	  events wait, and events that were emitted again.
 *
 * Process: the relay.  A copy of what outbox.dead_letter says; only the relay adds to it
 * what matters for order, so an old copy holds an event too many, never one too few.
 */
#ifndef OUTBOX_LETTERS_H
#define OUTBOX_LETTERS_H

#include "utils/hsearch.h"
#include "utils/palloc.h"
#include "utils/timestamp.h"

#include "bgworker/events/snapshot.h"

#define OUTBOX_LETTERS_MOST_KEYS 100000 /* that are kept; past them whole topics wait */

/* An event with a row in outbox.dead_letter. */
typedef struct OutboxExclusion
{
	uint64 txid;
	int64  seq;
} OutboxExclusion;

typedef struct OutboxKeyId
{
	uint8  key[32]; /* SHA-256 */
	uint64 topic;	/* hash */
} OutboxKeyId;

typedef struct OutboxHeldKey
{
	OutboxKeyId id;			 /* hash table key */
	int64		blocked_by;	 /* letter that events wait behind, 0 = only held ones are left */
	uint64		newest_txid; /* event of the newest letter that waits */
} OutboxHeldKey;

typedef struct OutboxLetters
{
	MemoryContext	 context; /* owns all below */
	bool			 loaded;  /* false: to be read with the next window */
	HTAB			*held;	  /* OutboxHeldKey; NULL: nothing is held */
	/* hashes of those with more keys than are kept: all their events with a key wait */
	uint64			*topics;
	int				 ntopics;
	OutboxExclusion *left_out; /* sorted; those a window from here on could hold */
	int				 nleft_out;
	uint64			*reissued; /* sorted; transactions that emitted letters again */
	int				 nreissued;
	TimestampTz		 next_look; /* for letters that are due */
	TimestampTz		 next_reload;
	int				 told_topics; /* how many of them the log has heard of */
	/* at the last look letters could not be written: the next one takes key by key */
	bool			 failing;
} OutboxLetters;

/* Inside a transaction.  Reads what events beyond lower need; with_keys: held keys too. */
extern void outbox_letters_load(OutboxLetters *letters, const OutboxSnapshot *lower,
								bool with_keys);

/* Inside a transaction.  The same when nothing is loaded or a person may have changed it. */
extern void outbox_letters_refresh(OutboxLetters *letters, const OutboxSnapshot *lower);

/*
 * Own transactions.  Emits letters again that are due, as transactions of their own; looks once a
 * second, and after an error, which leaves the letters due and is kept as the relay's last, every
 * two.  Returns their number and adds to *bytes those of the copies.  The next window must open
 * after this, on a snapshot that sees them.
 */
extern int outbox_letters_reissue(OutboxLetters *letters, int64 *bytes);

extern bool outbox_letters_leave_out(const OutboxLetters *letters, uint64 txid, int64 seq);
extern void outbox_letters_identify(OutboxKeyId *id, const char *topic, size_t topic_len,
									const uint8 *key, size_t key_len);

/* Must this event of a held key, or of a topic that waits as a whole, wait?  NULL: no. */
extern const OutboxHeldKey *outbox_letters_find_held(const OutboxLetters *letters,
													 const OutboxKeyId *id, uint64 txid);

#endif /* OUTBOX_LETTERS_H */
