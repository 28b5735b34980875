/* SPDX-License-Identifier: PostgreSQL
 *
 * db_notice.c
 *	  What a server says besides its answers: notices, warnings.
 *
 * Runs in the services, on the thread that owns the connection.  A handler that raises a notice for
 * each record must not fill the disk of the log: so many are logged, each cut, the others counted.
 */
#include "db_notice.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "db.h"
#include "log.h"
#include "metrics.h"
#include "text.h"

#define WINDOW_MS	   10000
#define WINDOW_NOTICES 200 /* of all connections of the process */
#define NOTICE_BYTES   1000
/* libpq keeps a buffer of that size as long as the connection */
#define HUGE_BYTES	   (1024 * 1024)

static OutboxMetric dropped_total = {
	.name = "outbox_database_notices_dropped_total",
	.help = "Notices of the database that were not logged, for there were too many.",
	.type = OUTBOX_METRIC_COUNTER,
};

static pthread_mutex_t	 limit_lock = PTHREAD_MUTEX_INITIALIZER;
static OutboxNoticeLimit limit; /* guarded by limit_lock */

bool
outbox_notice_take(OutboxNoticeLimit *window, int64_t now, unsigned long *left_out)
{
	*left_out = 0;
	if (now - window->began >= WINDOW_MS)
	{
		*left_out = window->left_out;
		*window = (OutboxNoticeLimit) {.began = now};
	}
	if (window->taken >= WINDOW_NOTICES)
	{
		window->left_out++;
		return false;
	}
	window->taken++;
	return true;
}

void
outbox_db_take_notice(void *arg, const PGresult *result)
{
	OutboxDb	 *db = arg;
	const char	 *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char	 *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	char		  text[NOTICE_BYTES];
	unsigned long left_out;
	bool		  taken;

	/* Where another process has crashed the server ends a session with a warning. */
	if (sqlstate != NULL && strncmp(sqlstate, "57P", 3) == 0)
		snprintf(db->warned, sizeof(db->warned), "%s", sqlstate);
	if (message == NULL)
		return;
	if (strlen(message) > HUGE_BYTES)
		outbox_db_renew(db);
	pthread_mutex_lock(&limit_lock);
	taken = outbox_notice_take(&limit, outbox_clock_ms(), &left_out);
	pthread_mutex_unlock(&limit_lock);
	outbox_metric_add(&dropped_total, taken ? 0 : 1, NULL);
	if (left_out > 0)
		outbox_log(OUTBOX_LOG_WARNING, "database_notices_dropped",
				   "%lu notices of the database were not logged: more than %d in %d s", left_out,
				   WINDOW_NOTICES, WINDOW_MS / 1000);
	if (!taken)
		return;
	outbox_text_copy(text, sizeof(text), message);
	outbox_log(OUTBOX_LOG_INFO, "database_notice", "%s", text);
}
