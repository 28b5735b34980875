/* SPDX-License-Identifier: PostgreSQL
 *
 * dead_letter.h
 *	  A record that is not done becomes a row of outbox.dead_letter.
 */
#ifndef OUTBOX_DEAD_LETTER_H
#define OUTBOX_DEAD_LETTER_H

#include "member.h"

/* The statement that writes an item's dead letter. */
#define OUTBOX_DEAD_LETTER_VALUES 18
extern const char outbox_dead_letter_sql[];

/* Its values, malloc'ed; NULL: SQL NULL. */
extern void outbox_dead_letter_values(const OutboxItem *item,
									  char			   *values[OUTBOX_DEAD_LETTER_VALUES]);

/* Milliseconds until the next try, after so many that failed: by the settings retry_backoff_*. */
extern long outbox_dead_letter_backoff(int failed);

/* "held", "retrying" or "open": what a record not done becomes. */
extern const char *outbox_dead_letter_state(const OutboxItem *item);

/*
 * After the commit: log line, count, breaker; unpublished: why it is not on <topic>.DLT, "": it is;
 * failing_ms: since the record failed first.
 */
extern void outbox_dead_letter_report(OutboxMember *member, const OutboxRecord *record,
									  const char *state, const OutboxError *error,
									  const char *unpublished, int64_t failing_ms);

#endif /* OUTBOX_DEAD_LETTER_H */
