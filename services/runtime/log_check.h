/* SPDX-License-Identifier: PostgreSQL
 *
 * log_check.h
 *	  The thread that checks whether logs are still those that were read.
 *
 * One for the process.  Members ask and look for the answer at a later turn of their loops.
 */
#ifndef OUTBOX_LOG_CHECK_H
#define OUTBOX_LOG_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "anchor.h"
#include "consumer.h"

#define OUTBOX_LOG_CHECKS_A_SECOND 20 /* partitions */

typedef struct OutboxLogQuestion OutboxLogQuestion;

/* config: without a group.  false: failed, logged. */
extern bool outbox_log_check_start(const OutboxConsumerConfig *config);

/*
 * Asks; the asker owns the question and gives it back with outbox_log_check_forget.  urgent: before
 * those that are not; doubtful: there was proof of another log just now, so that proof is believed
 * at once, else it must be found twice.
 */
extern OutboxLogQuestion *outbox_log_check_ask(const char *topic, int32_t partition,
											   const OutboxAnchor *last,
											   const OutboxAnchor *anchors, int count,
											   int64_t position, bool urgent, bool doubtful);

/* The answer; NULL: there is none yet. */
extern const OutboxLogCase *outbox_log_check_answer(OutboxLogQuestion *question);

/*
 * Has it waited so much longer than the questions before it take that the asker should go on
 * without an answer?  Then the thread waits for a broker.
 */
extern bool outbox_log_check_overdue(OutboxLogQuestion *question);

/* NULL is nothing to forget. */
extern void outbox_log_check_forget(OutboxLogQuestion *question);

/*
 * After the members' ends; waits up to 3 s for the request under way, and 3 s for the client's end.
 */
extern void outbox_log_check_stop(void);

#endif /* OUTBOX_LOG_CHECK_H */
