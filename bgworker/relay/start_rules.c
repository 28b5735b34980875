/* SPDX-License-Identifier: PostgreSQL
 *
 * start_rules.c
 *	  What Kafka's cursor says about the batch rows: every branch of the start
 *	  rules (I4, I6).
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "start_rules.h"
#include "src/fault.h"

static void
format_uuid(const pg_uuid_t *uuid, char *text)
{
	for (int i = 0; i < UUID_LEN; i++)
		snprintf(text + 2 * i, 3, "%02x", uuid->data[i]);
}

static bool
parse_uuid(const char *text, pg_uuid_t *uuid)
{
	for (int i = 0; i < UUID_LEN; i++)
	{
		unsigned int byte;

		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return false;
		uuid->data[i] = (unsigned char) byte;
	}
	return true;
}

void
outbox_cursor_write_note(char *note, size_t size, const OutboxBatchRow *row,
						 const OutboxIdentity *identity, bool lags, bool spare)
{
	char nonce[2 * UUID_LEN + 1];

	format_uuid(&row->nonce, nonce);
	snprintf(note, size,
			 "v1\nnonce=%s\nlags=%d\nspare=%d\nleft_out=%d\nsystem=" UINT64_FORMAT
			 "\ndatabase=%u\ntimeline=%d\ndirectory=%s\nhost=%s\ndata=%s",
			 nonce, lags, spare, row->left_out, identity->system_id, identity->database,
			 identity->timeline, identity->directory.text, identity->host,
			 identity->data_directory);
}

void
outbox_cursor_read_note(const char *note, size_t len, OutboxKafkaCursor *cursor)
{
	char *copy = pnstrdup(note, len);
	char *save = NULL;
	bool  nonce_found = false;
	bool  version_found = false;

	cursor->left_out = -1;
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
	{
		if (strcmp(line, "v1") == 0)
			version_found = true;
		else if (strncmp(line, "nonce=", 6) == 0 && strlen(line) == 6 + 2 * UUID_LEN)
			nonce_found = parse_uuid(line + 6, &cursor->nonce);
		else if (strncmp(line, "lags=", 5) == 0)
			cursor->lags = line[5] == '1';
		else if (strncmp(line, "spare=", 6) == 0)
			cursor->spare = line[6] == '1';
		else if (strncmp(line, "left_out=", 9) == 0)
			cursor->left_out = atoi(line + 9);
		else if (strncmp(line, "system=", 7) == 0)
			cursor->system_id = strtoull(line + 7, NULL, 10);
		else if (strncmp(line, "database=", 9) == 0)
			cursor->database = (Oid) strtoul(line + 9, NULL, 10);
		else if (strncmp(line, "timeline=", 9) == 0)
			cursor->timeline = atoi(line + 9);
		else if (strncmp(line, "directory=", 10) == 0)
			strlcpy(cursor->directory, line + 10, sizeof(cursor->directory));
		else if (strncmp(line, "host=", 5) == 0)
			strlcpy(cursor->host, line + 5, sizeof(cursor->host));
		else if (strncmp(line, "data=", 5) == 0)
			strlcpy(cursor->data_directory, line + 5, sizeof(cursor->data_directory));
	}
	cursor->readable = version_found && nonce_found;
	pfree(copy);
}

static void pg_attribute_printf(3, 4)
	diverge(OutboxComparison *result, OutboxDivergenceKind kind, const char *format, ...)
{
	va_list args;

	result->verdict = OUTBOX_START_DIVERGED;
	result->kind = kind;
	result->delivered = -1;
	va_start(args, format);
	vsnprintf(result->reason, sizeof(result->reason), format, args);
	va_end(args);
}

void
outbox_start_check_lineage(const OutboxBatchRow *last, const OutboxIdentity *identity,
						   OutboxComparison *result)
{
	memset(result, 0, sizeof(*result));
	result->kafka_batch = -1;
	if (last->restored)
		diverge(result, OUTBOX_RESTORED,
				"the batch log was restored from a dump, its transaction ids belong to another "
				"server");
	else if (last->database != identity->database)
		diverge(result, OUTBOX_COPY,
				"the batch log was written in database oid %u, this is %u: the database is a copy",
				last->database, identity->database);
}

/*
 * On a later timeline than the cursor's; pg_upgrade changes the system identifier and begins at
 * timeline 1.
 */
static bool
is_later(const OutboxKafkaCursor *kafka, const OutboxIdentity *identity)
{
	return kafka->system_id == identity->system_id && kafka->timeline < identity->timeline;
}

static bool
is_same_place(const OutboxKafkaCursor *kafka, const OutboxIdentity *identity)
{
	return strcmp(kafka->host, identity->host) == 0 &&
		strcmp(kafka->data_directory, identity->data_directory) == 0;
}

/*
 * Written from this data directory under this boot of the kernel: no copy of it can have done that.
 */
static bool
is_written_here(const OutboxKafkaCursor *kafka, const OutboxIdentity *identity)
{
	if (kafka->directory[0] != '\0')
		return strcmp(kafka->directory, identity->directory.text) == 0;
	return is_same_place(kafka, identity);
}

/*
 * Has the history this server was promoted from delivered the last batch?  Its row and
 * the cursor are then of one timeline, and ours is a later one.
 */
static bool
is_delivered_before(const OutboxKafkaCursor *kafka, const OutboxBatchRow *last,
					const OutboxIdentity *identity)
{
	return kafka->batch_no >= last->batch_no && kafka->system_id == last->system_id &&
		kafka->timeline == last->timeline && kafka->system_id == identity->system_id &&
		kafka->timeline < identity->timeline;
}

/*
 * Kafka's batch is not in this history, for the reason in result->reason.  A server of a later
 * timeline has lost it, and so has the data directory that wrote it; else it cannot be told from a
 * copy that has gone on.
 */
static void
judge_foreign(const OutboxKafkaCursor *kafka, const OutboxIdentity *identity,
			  OutboxComparison *result)
{
	size_t len = strlen(result->reason);

	if (is_later(kafka, identity) || is_written_here(kafka, identity))
		return;
	result->kind = OUTBOX_COPY;
	snprintf(result->reason + len, sizeof(result->reason) - len,
			 "; %.100s:%.100s wrote it on the same timeline: a copy of this server went on, or "
			 "this is the copy, or an older state was restored",
			 kafka->host, kafka->data_directory);
}

/* Is the row Kafka names ours, with the nonce Kafka has?  may_lag: it may be any of ours. */
static void
check_named_row(const OutboxKafkaCursor *kafka, const OutboxBatchRow *last,
				const OutboxIdentity *identity, bool may_lag, OutboxComparison *result)
{
	OutboxBatchRow named;
	bool		   behind = !may_lag && kafka->batch_no < last->batch_no - 1;
	bool		   found = outbox_batch_log_load(kafka->batch_no, CurrentMemoryContext, &named);

	if (found && memcmp(&named.nonce, &kafka->nonce, sizeof(pg_uuid_t)) != 0)
	{
		diverge(result, OUTBOX_LOST_HISTORY,
				"Kafka's batch " INT64_FORMAT
				" carries another nonce than this database's: two histories",
				kafka->batch_no);
		judge_foreign(kafka, identity, result);
	}
	else if (behind)
		diverge(result, OUTBOX_LOST_HISTORY,
				"Kafka has batch " INT64_FORMAT ", this database " INT64_FORMAT
				": Kafka has lost commits",
				kafka->batch_no, last->batch_no);
	else if (!found)
	{
		diverge(result, OUTBOX_LOST_HISTORY,
				"Kafka's batch " INT64_FORMAT " is not in this database", kafka->batch_no);
		judge_foreign(kafka, identity, result);
	}
	else if (kafka->left_out > named.left_out)
	{
		result->letters_lost = true;
		diverge(result, OUTBOX_LOST_HISTORY,
				"Kafka's batch " INT64_FORMAT
				" left out %d events, this database has %d dead letters and held events of it"
				": it was recovered to an earlier time",
				kafka->batch_no, kafka->left_out, named.left_out);
	}
}

/*
 * Whose is the cursor?  On one timeline the row it names decides, wherever it was written; host and
 * path do only where the data directory has no marker that could tell.
 */
static void
check_cursor(const OutboxKafkaCursor *kafka, const OutboxBatchRow *last,
			 const OutboxIdentity *identity, bool may_lag, OutboxComparison *result)
{
	if (!kafka->readable)
		diverge(result, OUTBOX_LOST_HISTORY, "Kafka's cursor carries metadata that no relay wrote");
	else if (kafka->database != identity->database)
		diverge(result, OUTBOX_COPY,
				"Kafka's cursor was written by database oid %u, this is %u: the database is a copy",
				kafka->database, identity->database);
	else if (kafka->system_id == identity->system_id && kafka->timeline > identity->timeline)
		diverge(result, OUTBOX_SUPERSEDED,
				"Kafka's cursor was written by %.100s:%.100s on timeline %d, this server is on "
				"timeline %d: another server was promoted",
				kafka->host, kafka->data_directory, kafka->timeline, identity->timeline);
	else if (identity->marker_verdict == OUTBOX_MARKER_UNKNOWN &&
			 kafka->system_id == identity->system_id && !is_later(kafka, identity) &&
			 !is_same_place(kafka, identity))
		diverge(result, OUTBOX_COPY,
				"Kafka's cursor was written by %.100s:%.100s on the same timeline, and this data "
				"directory had no marker: this server is a copy of it, or was moved",
				kafka->host, kafka->data_directory);
	else if (kafka->batch_no > last->batch_no)
	{
		diverge(result, OUTBOX_LOST_HISTORY,
				"Kafka has batch " INT64_FORMAT ", this database only " INT64_FORMAT
				": it has lost history (a lagging standby was promoted, or it was recovered to an "
				"earlier time)",
				kafka->batch_no, last->batch_no);
		judge_foreign(kafka, identity, result);
	}
	else
		check_named_row(kafka, last, identity, may_lag, result);
}

void
outbox_start_mend_reason(OutboxComparison *result, int encoding)
{
	char *at = result->reason;
	int	  left = (int) strlen(at);

	while (left > 0)
	{
		int length = pg_encoding_verifymbchar(encoding, at, left);

		if (length <= 0)
		{
			*at = '?';
			length = 1;
		}
		at += length;
		left -= length;
	}
}

bool
outbox_start_may_pass_over(const OutboxKafkaCursor *kafka, const OutboxIdentity *identity,
						   bool spare)
{
	if (!kafka->present || (kafka->spare == spare && !kafka->lags))
		return true;
	return kafka->directory[0] != '\0' && is_written_here(kafka, identity);
}

void
outbox_start_call_copy(OutboxComparison *result, const char *reason)
{
	bool delivered = result->verdict == OUTBOX_START_GO_ON;

	diverge(result, OUTBOX_COPY, "%s", reason);
	result->last_delivered = delivered;
}

void
outbox_start_compare(const OutboxKafkaCursor *kafka, const OutboxBatchRow *last,
					 const OutboxIdentity *identity, bool may_lag, OutboxComparison *result)
{
	outbox_start_check_lineage(last, identity, result);
	result->kafka_batch = kafka->present ? kafka->batch_no : -1;
	OUTBOX_MUTATE("no_comparison", result->verdict = OUTBOX_START_GO_ON;
				  result->delivered = last->batch_no; return);
	if (result->verdict != OUTBOX_START_DIVERGED && kafka->present)
		check_cursor(kafka, last, identity, may_lag, result);
	result->lagged = kafka->present && kafka->lags;
	result->written_here =
		kafka->present && kafka->directory[0] != '\0' && is_written_here(kafka, identity);
	result->last_delivered = kafka->present && result->kind == OUTBOX_LOST_HISTORY &&
		!result->letters_lost && is_delivered_before(kafka, last, identity);
	if (result->verdict == OUTBOX_START_DIVERGED)
		return;
	result->takes_over = kafka->present && is_later(kafka, identity);

	if (!kafka->present)
	{
		result->verdict = OUTBOX_START_CURSOR_LOST;
		result->delivered = last->batch_no - 1;
	}
	else
	{
		result->verdict =
			kafka->batch_no == last->batch_no ? OUTBOX_START_GO_ON : OUTBOX_START_SEND_AGAIN;
		result->delivered = kafka->batch_no;
	}
}
