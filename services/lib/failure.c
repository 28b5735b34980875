/* SPDX-License-Identifier: PostgreSQL
 *
 * failure.c
 *	  What has gone wrong, and what it asks for: classes of SQLSTATEs.
 *
 * Runs in the services, any thread.  No state.
 */
#include "failure.h"

#include <stdio.h>
#include <string.h>

#include "text.h"

const char *
outbox_failure_name(OutboxDbFailure failure)
{
	static const char *const names[] = {"none",		 "infrastructure", "record", "decode",
										"permanent", "crash",		   "deploy"};

	return names[failure];
}

OutboxDbFailure
outbox_failure_classify(const char *sqlstate)
{
	static const char *const waits[] = {"08",	 "53",	  "57014", "57P",	"58",
										"72",	 "XX",	  "40001", "40003", "40P01",
										"55P03", "25006", "25P03", "25P04"};
	/* bytes that are no text, a character that the database has not */
	static const char *const texts[] = {"22021", "22P05"};
	static const char *const deploys[] = {"28",	   "3D",	"26000", "42P05", "0A000",
										  "3F000", "42501", "42P01", "42P02", "42703",
										  "42704", "42725", "42883"};

	if (sqlstate == NULL || sqlstate[0] == '\0')
		return OUTBOX_FAILURE_INFRASTRUCTURE;
	if (strcmp(sqlstate, "OBX01") == 0)
		return OUTBOX_FAILURE_PERMANENT;
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++)
	{
		if (strncmp(sqlstate, waits[i], strlen(waits[i])) == 0)
			return OUTBOX_FAILURE_INFRASTRUCTURE;
	}
	for (size_t i = 0; i < sizeof(deploys) / sizeof(deploys[0]); i++)
	{
		if (strncmp(sqlstate, deploys[i], strlen(deploys[i])) == 0)
			return OUTBOX_FAILURE_DEPLOY;
	}
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		if (strcmp(sqlstate, texts[i]) == 0)
			return OUTBOX_FAILURE_DECODE;
	}
	return OUTBOX_FAILURE_RECORD;
}

bool
outbox_failure_ends_session(const char *sqlstate)
{
	/*
	 * The server is not the primary any more; it is about to end the session, or its transaction is
	 * not ours; the session has gone wrong inside.  A deployment may have changed what was
	 * prepared.
	 */
	static const char *const ends[] = {"08", "25", "57P", "58", "XX"};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
	{
		if (strncmp(sqlstate, ends[i], strlen(ends[i])) == 0)
			return true;
	}
	return outbox_failure_classify(sqlstate) == OUTBOX_FAILURE_DEPLOY;
}

void
outbox_error_set(OutboxError *error, OutboxDbFailure failure, const char *sqlstate,
				 const char *message)
{
	size_t len;

	error->failure = failure;
	error->ended = false;
	snprintf(error->sqlstate, sizeof(error->sqlstate), "%s", sqlstate != NULL ? sqlstate : "");
	outbox_text_copy(error->message, sizeof(error->message), message != NULL ? message : "");
	len = strlen(error->message);
	while (len > 0 && error->message[len - 1] == '\n')
		error->message[--len] = '\0';
}
