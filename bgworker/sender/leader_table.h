/* SPDX-License-Identifier: PostgreSQL
 *
 * leader_table.h
 *	  Topics of which a partition has no leader, and since when.
 *
 * Pure; whoever has the table locks it.
 */
#ifndef OUTBOX_LEADER_TABLE_H
#define OUTBOX_LEADER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/common/topic_names.h"

/* Looks that are further apart say nothing of what was between them. */
#define OUTBOX_LEADERS_GAP_US 10000000

typedef struct OutboxLeaderless
{
	char	topic[OUTBOX_TOPIC_NAME_SIZE];
	int32_t partition; /* the first without a leader, when it was seen last */
	int64_t since_us;  /* when it was seen first, with no look since that found all leaders */
	int64_t seen_us;
} OutboxLeaderless;

/* All zero: nothing is known. */
typedef struct OutboxLeaderTable
{
	OutboxLeaderless *rows;
	size_t			  count;
	size_t			  capacity;
	size_t			  hint; /* where the next one may be: looks come in one order */
} OutboxLeaderTable;

extern bool outbox_leader_table_note(OutboxLeaderTable *table, const char *topic, int32_t partition,
									 int64_t now_us);
extern void outbox_leader_table_forget(OutboxLeaderTable *table, const char *topic);
extern void outbox_leader_table_keep_seen(OutboxLeaderTable *table, int64_t now_us);
extern const OutboxLeaderless *outbox_leader_table_find(OutboxLeaderTable *table, const char *topic,
														int64_t now_us);
extern void outbox_leader_table_free(OutboxLeaderTable *table);

#endif /* OUTBOX_LEADER_TABLE_H */
