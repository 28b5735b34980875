/* SPDX-License-Identifier: PostgreSQL
 *
 * anchor.c
 *	  What a partition's anchors prove, and which are kept.
 *
 * Runs in the services, any thread.  Pure.
 */
#include "anchor.h"

#include <string.h>

OutboxProof
outbox_anchor_judge(const OutboxAnchor *anchor, const OutboxLogView *view)
{
	if (view->found == OUTBOX_FOUND_RECORD)
		return view->timestamp_ms == anchor->timestamp_ms && view->digest == anchor->digest ?
			OUTBOX_PROOF_STANDS :
			OUTBOX_PROOF_REFUTED;
	if (!view->range_known)
		return OUTBOX_PROOF_UNREAD;
	if (anchor->offset >= view->high)
		return OUTBOX_PROOF_REFUTED;
	if (anchor->offset < view->low)
		return OUTBOX_PROOF_GONE;
	if (view->found == OUTBOX_FOUND_UNREAD)
		return OUTBOX_PROOF_UNREAD;
	return view->keeps_all ? OUTBOX_PROOF_REFUTED : OUTBOX_PROOF_GONE;
}

void
outbox_log_case_begin(OutboxLogCase *log, const OutboxAnchor *last, const OutboxAnchor *anchors,
					  int count, int64_t position)
{
	memset(log, 0, sizeof(*log));
	if (count > 0)
		memcpy(log->anchors, anchors, (size_t) count * sizeof(*anchors));
	log->count = count;
	log->last = *last;
	if (count > 0 && last->offset <= anchors[0].offset)
		log->last.offset = -1;
	log->position = position;
	log->standing = -1;
}

bool
outbox_log_case_open(const OutboxLogCase *log, int64_t *offset)
{
	*offset = -1;
	if (log->silent)
		return false;
	if (!log->seen && log->last.offset >= 0)
		*offset = log->last.offset;
	else if (log->standing < 0 && log->next < log->count)
		*offset = log->anchors[log->next].offset;
	else
		return !log->seen;
	return true;
}

static void
see_anchor(OutboxLogCase *log, const OutboxLogView *view)
{
	OutboxProof proof = outbox_anchor_judge(&log->anchors[log->next], view);

	log->other = log->other || proof == OUTBOX_PROOF_REFUTED;
	log->unread = log->unread || proof == OUTBOX_PROOF_UNREAD;
	if (proof == OUTBOX_PROOF_STANDS)
		log->standing = log->next;
	log->next++;
}

void
outbox_log_case_see(OutboxLogCase *log, const OutboxLogView *view)
{
	bool first = !log->seen;

	log->seen = true;
	log->silent = !view->range_known && view->found == OUTBOX_FOUND_UNREAD;
	if (view->range_known)
	{
		log->range_known = true;
		log->low = view->low;
		log->high = view->high;
		log->other = log->other || log->position > view->high;
	}
	if (first && log->last.offset >= 0)
	{
		OutboxProof proof = outbox_anchor_judge(&log->last, view);

		log->other = log->other || proof == OUTBOX_PROOF_REFUTED;
		log->unread = proof == OUTBOX_PROOF_UNREAD;
	}
	else if (log->next < log->count)
		see_anchor(log, view);
	else
		log->unread = !view->range_known;
}

OutboxLogVerdict
outbox_log_case_verdict(const OutboxLogCase *log)
{
	if (log->other)
		return OUTBOX_LOG_OTHER;
	if (log->standing >= 0)
		return OUTBOX_LOG_SAME;
	return log->unread ? OUTBOX_LOG_UNREAD : OUTBOX_LOG_NO_PROOF;
}

void
outbox_suspect_doubt(OutboxAnchor *suspect, const OutboxAnchor *newest)
{
	if (suspect->offset < 0)
		*suspect = *newest;
}

const OutboxAnchor *
outbox_suspect_choose(const OutboxAnchor *suspect, const OutboxAnchor *newest)
{
	return suspect->offset >= 0 ? suspect : newest;
}

void
outbox_suspect_answered(OutboxAnchor *suspect, const OutboxAnchor *asked, OutboxLogVerdict verdict)
{
	if (verdict == OUTBOX_LOG_SAME || verdict == OUTBOX_LOG_NO_PROOF)
		suspect->offset = -1;
	else
		outbox_suspect_doubt(suspect, asked);
}

bool
outbox_log_case_is_good(const OutboxLogCase *log)
{
	return !log->other && !log->unread && log->standing >= 0;
}

int64_t
outbox_log_case_restart(const OutboxLogCase *log)
{
	return log->standing >= 0 ? log->anchors[log->standing].offset + 1 : 0;
}

/*
 * The one between the newest and the oldest without which the gap would be the smallest for its
 * distance from the newest.
 */
static int
choose_superfluous(const OutboxAnchor *anchors, int count)
{
	double step = (double) (anchors[0].offset - anchors[1].offset);
	double least = 0;
	int	   chosen = -1;

	for (int i = 1; i < count - 1; i++)
	{
		double gap = (double) (anchors[i - 1].offset - anchors[i + 1].offset);
		double distance = (double) (anchors[0].offset - anchors[i - 1].offset) + step;

		if (chosen < 0 || gap / distance < least)
		{
			least = gap / distance;
			chosen = i;
		}
	}
	return chosen;
}

int64_t
outbox_anchors_add(OutboxAnchor *anchors, int *count, const OutboxAnchor *anchor)
{
	OutboxAnchor all[OUTBOX_ANCHORS + 1];
	int64_t		 given_up;
	int			 chosen;

	all[0] = *anchor;
	memcpy(&all[1], anchors, (size_t) *count * sizeof(*anchors));
	if (*count < OUTBOX_ANCHORS)
	{
		++*count;
		memcpy(anchors, all, (size_t) *count * sizeof(*anchors));
		return -1;
	}
	chosen = choose_superfluous(all, OUTBOX_ANCHORS + 1);
	given_up = all[chosen].offset;
	memmove(&all[chosen], &all[chosen + 1], (size_t) (OUTBOX_ANCHORS - chosen) * sizeof(*anchors));
	memcpy(anchors, all, OUTBOX_ANCHORS * sizeof(*anchors));
	return given_up;
}
