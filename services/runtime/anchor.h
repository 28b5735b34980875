/* SPDX-License-Identifier: PostgreSQL
 *
 * anchor.h
 *	  Is a partition's log still the one that was read?  What its anchors prove.
 *
 * An anchor is a record that was processed and that the last good check left.  The newest is
 * compared with the log; it proves that the log is another one when another record is at its
 * offset.  The record read last can prove that, too, but not that the log is the same: it may be of
 * the other one.
 *
 * Pure; any thread.
 */
#ifndef OUTBOX_ANCHOR_H
#define OUTBOX_ANCHOR_H

#include <stdbool.h>
#include <stdint.h>

#define OUTBOX_ANCHORS 8 /* of a partition */

typedef struct OutboxAnchor
{
	int64_t offset;
	int64_t timestamp_ms; /* since 1970; -1: none */
	int64_t digest;		  /* outbox_record_digest */
} OutboxAnchor;

/* What is at an offset of the log. */
typedef enum OutboxFound
{
	OUTBOX_FOUND_UNREAD = 0, /* not known */
	OUTBOX_FOUND_RECORD,	 /* a record */
	OUTBOX_FOUND_NONE,		 /* no record: the next one is behind it, or the log's end */
} OutboxFound;

/* What was seen of a log. */
typedef struct OutboxLogView
{
	OutboxFound found;		  /* at the anchor's offset */
	int64_t		timestamp_ms; /* of the record found */
	int64_t		digest;		  /* of the record found */
	bool		range_known;
	int64_t		low;  /* first offset */
	int64_t		high; /* one after the last */
	/* cleanup.policy is delete: between low and high every record is there */
	bool		keeps_all;
} OutboxLogView;

typedef enum OutboxProof
{
	OUTBOX_PROOF_STANDS,  /* the anchor is there, unchanged */
	OUTBOX_PROOF_REFUTED, /* the log is not the one the anchor is of */
	OUTBOX_PROOF_GONE,	  /* deleted or compacted away: says nothing, for ever */
	OUTBOX_PROOF_UNREAD,  /* says nothing now */
} OutboxProof;

extern OutboxProof outbox_anchor_judge(const OutboxAnchor *anchor, const OutboxLogView *view);

typedef enum OutboxLogVerdict
{
	OUTBOX_LOG_SAME,	 /* an anchor stands */
	OUTBOX_LOG_OTHER,	 /* the log was made anew or cut */
	OUTBOX_LOG_NO_PROOF, /* there is no anchor, or all are gone */
	OUTBOX_LOG_UNREAD,	 /* not known now */
} OutboxLogVerdict;

/* The check of one log: the record read last, then anchors from the newest on until one stands. */
typedef struct OutboxLogCase
{
	OutboxAnchor last;					  /* offset -1: none is asked */
	OutboxAnchor anchors[OUTBOX_ANCHORS]; /* the newest first */
	int			 count;
	int64_t		 position; /* all before it was read; -1: nothing was */
	bool		 seen;	   /* anything was, the record read last first */
	int			 next;	   /* the anchor asked next */
	int			 standing; /* the newest that stands; -1: none yet */
	bool		 other;	   /* there is proof of another log */
	bool		 unread;   /* something could not be read */
	bool		 silent;   /* nothing was heard of the log: no more is asked */
	bool		 range_known;
	int64_t		 low;
	int64_t		 high;
} OutboxLogCase;

extern void outbox_log_case_begin(OutboxLogCase *log, const OutboxAnchor *last,
								  const OutboxAnchor *anchors, int count, int64_t position);

/* Is there more to see?  *offset: where to look, -1: at the range alone. */
extern bool outbox_log_case_open(const OutboxLogCase *log, int64_t *offset);

/* Takes what was seen in. */
extern void outbox_log_case_see(OutboxLogCase *log, const OutboxLogView *view);

extern OutboxLogVerdict outbox_log_case_verdict(const OutboxLogCase *log);

/*
 * What may be wrong with a log is looked for by the record that was done last when it may have
 * become wrong: the newest one may be of the other log by the time somebody looks.  suspect: that
 * record; offset -1: there is no doubt.
 */

/* There is reason to look; newest: the record done last. */
extern void outbox_suspect_doubt(OutboxAnchor *suspect, const OutboxAnchor *newest);

/* Which of the two the next case begins with. */
extern const OutboxAnchor *outbox_suspect_choose(const OutboxAnchor *suspect,
												 const OutboxAnchor *newest);

/*
 * The case that began with asked has ended.  Without an answer the doubt stays, or arises; with
 * proof of another log, too, for the caller looks again before reading goes back, and then forgets
 * it.
 */
extern void outbox_suspect_answered(OutboxAnchor *suspect, const OutboxAnchor *asked,
									OutboxLogVerdict verdict);

/* May the record asked first become an anchor? */
extern bool outbox_log_case_is_good(const OutboxLogCase *log);

/* Verdict OTHER: all before it is still there, or it is the beginning, 0. */
extern int64_t outbox_log_case_restart(const OutboxLogCase *log);

/*
 * Puts an anchor newer than all before the others.  Of more than OUTBOX_ANCHORS one is given up, so
 * that they are ever farther apart.  Returns the offset given up, -1: none.
 */
extern int64_t outbox_anchors_add(OutboxAnchor *anchors, int *count, const OutboxAnchor *anchor);

#endif /* OUTBOX_ANCHOR_H */
