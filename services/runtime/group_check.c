/* SPDX-License-Identifier: PostgreSQL
 *
 * group_check.c
 *	  Warns when this consumer is new to a topic that other consumers of the database
 *	  have read: under another group_id it may be one of them.
 *
 * Runs in the services, once a process, before any of its members has read a record:
 * after that the consumer is not new any more.
 */
#include "group_check.h"

#include <pthread.h>

#include "settings.h"
#include "services/lib/log.h"

static const char others_sql[] = "SELECT topic, others FROM outbox.consumer_is_new($1, $2::text[])";

static pthread_mutex_t check_lock = PTHREAD_MUTEX_INITIALIZER;
static bool			   checked; /* guarded by check_lock */

/* false: the database did not answer. */
static bool
check_topics(OutboxMember *member)
{
	const char *values[2] = {outbox_settings.group_id, member->topics};
	PGresult   *result = outbox_db_query(&member->db, others_sql, 2, values);

	if (result == NULL && member->db.error.failure == OUTBOX_FAILURE_INFRASTRUCTURE)
		return false;
	if (result == NULL)
		outbox_log(OUTBOX_LOG_WARNING, "group_not_checked", "%s", member->db.error.message);
	for (int row = 0; result != NULL && row < PQntuples(result); row++)
		outbox_log(OUTBOX_LOG_WARNING, "consumer_is_new",
				   "consumer %s has no watermark for topic %s in this database, other consumers "
				   "have: %s. It reads"
				   " from the group's committed offset in Kafka, without one from the topic's "
				   "beginning, and what they"
				   " have processed it processes again. Is it one of them with another group_id, "
				   "stop it and give it"
				   " the old name",
				   outbox_settings.group_id, PQgetvalue(result, row, 0),
				   PQgetvalue(result, row, 1));
	PQclear(result);
	return true;
}

void
outbox_group_check(OutboxMember *member)
{
	pthread_mutex_lock(&check_lock);
	checked = checked || check_topics(member);
	pthread_mutex_unlock(&check_lock);
}
