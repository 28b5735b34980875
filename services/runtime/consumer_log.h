/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_log.h
 *	  Is the log still the one that was read?
 */
#ifndef OUTBOX_CONSUMER_LOG_H
#define OUTBOX_CONSUMER_LOG_H

#include "member.h"

/* Fills the partitions' anchors.  false: member->db.error. */
extern bool outbox_log_read_anchors(OutboxMember *member, OutboxPartition *const *partitions,
									size_t count);

/*
 * The record is the last one of its partition in the batch that is begun: fills partition->begun.
 */
extern void outbox_log_note_begun(OutboxPartition *partition, const OutboxRecord *record);

/* The record is done: it may become an anchor. */
extern void outbox_log_note_done(OutboxPartition *partition, const OutboxRecord *record);

/* The same of a record by what an anchor keeps of it. */
extern void outbox_log_note_anchor(OutboxPartition *partition, const OutboxAnchor *anchor);

/* Has the partition's log checked.  false: there is nothing to know it by. */
extern bool outbox_log_ask(OutboxPartition *partition, bool urgent);

/*
 * What was found, given once; false: nothing yet.  partition->question is not NULL.  Overdue it is
 * UNREAD.
 */
extern bool outbox_log_answer(OutboxPartition *partition, OutboxLogCase *log);

/* Sets check_at; made: the log was looked at, or need not be. */
extern void outbox_log_check_later(OutboxMember *member, OutboxPartition *partition, bool made);

/*
 * Leaves an anchor, unless watch_at says that the database is away; for the verdicts SAME and
 * NO_PROOF.
 */
extern void outbox_log_take_good(OutboxMember *member, OutboxPartition *partition,
								 const OutboxLogCase *log);

/*
 * Records [from, low) were deleted before they were read: warns and counts; the watermark goes to
 * low, so that it is told once.
 */
extern void outbox_log_note_lost(OutboxMember *member, OutboxPartition *partition, int64_t from,
								 int64_t low);

/*
 * Verdict OTHER: the watermark goes back; *start: where reading goes on.  false: member->db.error;
 * *fenced: another member has moved the watermark, nothing is changed.
 */
extern bool outbox_log_go_back(OutboxMember *member, OutboxPartition *partition,
							   const OutboxLogCase *log, int64_t *start, bool *fenced);

/* Each turn of the loop: takes answers, asks what is due. */
extern void outbox_log_watch(OutboxMember *member);

#endif /* OUTBOX_CONSUMER_LOG_H */
