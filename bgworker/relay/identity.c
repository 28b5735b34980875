/* SPDX-License-Identifier: PostgreSQL
 *
 * identity.c
 *	  Who this server and database are, and the one row of outbox.installation.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "identity.h"
#include "bgworker/session.h"

/* The one row of outbox.installation: its name, what it accepted, what it holds for. */
static void
read_installation(OutboxIdentity *identity, OutboxAccepted *accepted)
{
	HeapTuple tuple;
	TupleDesc desc;
	bool	  isnull;
	Datum	  value;
	char	 *held;

	if (SPI_execute("SELECT id, marker, marker_timeline, created_at, held, held_delivered "
					"FROM outbox.installation",
					true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND), errmsg("outbox.installation has no row"),
				 errhint("Create the extension anew in this database.")));
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	identity->installation = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &isnull));
	value = SPI_getbinval(tuple, desc, 2, &isnull);
	accepted->present = !isnull;
	if (!isnull)
		accepted->id = *DatumGetUUIDP(value);
	value = SPI_getbinval(tuple, desc, 3, &isnull);
	accepted->timeline = isnull ? 0 : DatumGetInt32(value);
	accepted->created_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &isnull));
	held = SPI_getvalue(tuple, desc, 5);
	strlcpy(identity->held, held == NULL ? "" : held, sizeof(identity->held));
	identity->held_delivered = DatumGetBool(SPI_getbinval(tuple, desc, 6, &isnull));
}

void
outbox_identity_read(OutboxIdentity *identity)
{
	OutboxAccepted accepted = {0};
	OutboxMarker   marker;
	bool		   fits;

	memset(identity, 0, sizeof(*identity));
	outbox_session_begin();
	read_installation(identity, &accepted);
	outbox_session_end();

	identity->system_id = GetSystemIdentifier();
	identity->database = MyDatabaseId;
	identity->timeline = (int) GetWALInsertionTimeLine();
	if (gethostname(identity->host, sizeof(identity->host) - 1) != 0)
		strlcpy(identity->host, "unknown", sizeof(identity->host));
	strlcpy(identity->data_directory, DataDir, sizeof(identity->data_directory));
	outbox_directory_identify(DataDir, &identity->directory);
	identity->has_marker = outbox_marker_read(&marker, &fits);
	identity->marker_verdict = outbox_marker_judge(identity->has_marker ? &marker : NULL, fits,
												   &accepted, identity->timeline);
	identity->has_marker = identity->has_marker && fits;
	if (identity->has_marker)
		identity->marker_id = marker.id;
}

void
outbox_identity_adopt(const OutboxIdentity *identity, bool rename)
{
	Oid	  types[] = {UUIDOID, INT4OID, BOOLOID};
	Datum values[] = {UUIDPGetDatum(&identity->marker_id), Int32GetDatum(identity->timeline),
					  BoolGetDatum(rename)};
	char  nulls[] = {identity->has_marker ? ' ' : 'n', ' ', ' '};

	if (SPI_execute_with_args("UPDATE outbox.installation SET marker = $1, marker_timeline = $2, "
							  "held = NULL, held_delivered = false, "
							  "id = CASE WHEN $3 THEN gen_random_uuid() ELSE id END",
							  3, types, values, nulls, false, 0) != SPI_OK_UPDATE ||
		SPI_processed != 1)
		elog(ERROR, "could not update outbox.installation");
}

void
outbox_identity_accept_marker(OutboxIdentity *identity)
{
	if (identity->has_marker)
	{
		outbox_session_begin();
		outbox_identity_adopt(identity, false);
		outbox_session_end();
	}
	identity->marker_verdict = OUTBOX_MARKER_FITS;
}

void
outbox_identity_keep_hold(const char *reason, bool last_delivered)
{
	Oid	  types[] = {TEXTOID, BOOLOID};
	Datum values[] = {CStringGetTextDatum(reason), BoolGetDatum(last_delivered)};

	outbox_session_begin();
	if (SPI_execute_with_args("UPDATE outbox.installation SET held = $1, held_delivered = $2 "
							  "WHERE held IS NULL",
							  2, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update outbox.installation");
	outbox_session_end();
}
