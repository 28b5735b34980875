/* SPDX-License-Identifier: PostgreSQL
 *
 * leader_table.c
 *	  Topics of which a partition has no leader, and since when.
 *
 * Runs in the sender.  Pure.
 */
#include "leader_table.h"

#include <stdlib.h>
#include <string.h>

static OutboxLeaderless *
find_row(OutboxLeaderTable *table, const char *topic)
{
	for (size_t i = 0; i < table->count; i++)
	{
		size_t at = (table->hint + i) % table->count;

		if (strcmp(table->rows[at].topic, topic) == 0)
		{
			table->hint = at + 1;
			return &table->rows[at];
		}
	}
	return NULL;
}

static OutboxLeaderless *
add_row(OutboxLeaderTable *table, const char *topic, size_t len)
{
	OutboxLeaderless *row;

	if (table->count == table->capacity)
	{
		size_t			  capacity = table->capacity == 0 ? 16 : table->capacity * 2;
		OutboxLeaderless *rows = realloc(table->rows, capacity * sizeof(*rows));

		if (rows == NULL)
			return NULL;
		table->rows = rows;
		table->capacity = capacity;
	}
	row = &table->rows[table->count++];
	memcpy(row->topic, topic, len + 1);
	return row;
}

/* A partition of the topic has no leader now.  False: no memory, or a name that is none. */
bool
outbox_leader_table_note(OutboxLeaderTable *table, const char *topic, int32_t partition,
						 int64_t now_us)
{
	OutboxLeaderless *row = find_row(table, topic);
	size_t			  len = strlen(topic);
	bool			  known = row != NULL && now_us - row->seen_us <= OUTBOX_LEADERS_GAP_US;

	if (len >= OUTBOX_TOPIC_NAME_SIZE)
		return false;
	if (row == NULL)
		row = add_row(table, topic, len);
	if (row == NULL)
		return false;
	if (!known)
		row->since_us = now_us;
	row->partition = partition;
	row->seen_us = now_us;
	return true;
}

/* The topic has all its leaders now. */
void
outbox_leader_table_forget(OutboxLeaderTable *table, const char *topic)
{
	OutboxLeaderless *row = find_row(table, topic);

	if (row == NULL)
		return;
	*row = table->rows[--table->count];
	table->hint = 0;
}

/* A look at all topics has ended, which began at now_us: what it has not seen has its leaders. */
void
outbox_leader_table_keep_seen(OutboxLeaderTable *table, int64_t now_us)
{
	size_t kept = 0;

	for (size_t i = 0; i < table->count; i++)
		if (table->rows[i].seen_us >= now_us)
			table->rows[kept++] = table->rows[i];
	table->count = kept;
	table->hint = 0;
}

/* NULL: the topic has all its leaders, or nobody has looked of late. */
const OutboxLeaderless *
outbox_leader_table_find(OutboxLeaderTable *table, const char *topic, int64_t now_us)
{
	const OutboxLeaderless *row = find_row(table, topic);

	return row != NULL && now_us - row->seen_us <= OUTBOX_LEADERS_GAP_US ? row : NULL;
}

void
outbox_leader_table_free(OutboxLeaderTable *table)
{
	free(table->rows);
	memset(table, 0, sizeof(*table));
}
