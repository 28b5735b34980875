/* SPDX-License-Identifier: PostgreSQL
 *
 * grantee.c
 *	  The type outbox.grantee: a role of outbox.topic_grant.
 *
 * Runs in application backends.  Stored and written as regrole is: by number, shown by name, so it
 * follows a rename.  Read differently: a dump that names a role which does not exist here is loaded
 * without it, with a warning, and a number, which is all that is left of a role that was dropped,
 * is nobody: here it would be somebody else.
 */
#include "postgres.h"

#include "fmgr.h"
#include "libpq/pqformat.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(outbox_grantee_in);
PG_FUNCTION_INFO_V1(outbox_grantee_out);
PG_FUNCTION_INFO_V1(outbox_grantee_recv);
PG_FUNCTION_INFO_V1(outbox_grantee_send);

/*
 * The number of the role of that name, as an identifier is written; InvalidOid with a warning when
 * there is none.
 */
static Oid
read_role(const char *text)
{
	bool		is_name = strspn(text, "0123456789") < strlen(text) && strcmp(text, "-") != 0;
	const char *name = text;
	List	   *names = NIL;
	Oid			role = InvalidOid;

	if (is_name)
	{
		if (!SplitIdentifierString(pstrdup(text), '.', &names) || list_length(names) != 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_NAME),
					 errmsg("invalid name of a role: \"%s\"", text)));
		name = linitial(names);
		role = get_role_oid(name, true);
	}
	if (!OidIsValid(role))
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist: its right to emit is left out", name),
				 errhint("Create the role, then call outbox.grant_topic().")));
	return role;
}

Datum
outbox_grantee_in(PG_FUNCTION_ARGS)
{
	PG_RETURN_OID(read_role(PG_GETARG_CSTRING(0)));
}

/* The role's name, quoted where it must be; of one that was dropped its number. */
Datum
outbox_grantee_out(PG_FUNCTION_ARGS)
{
	return DirectFunctionCall1(regroleout, PG_GETARG_DATUM(0));
}

/* In binary, too, it is the name that goes from one server to another, as an enum's does. */
Datum
outbox_grantee_recv(PG_FUNCTION_ARGS)
{
	StringInfo message = (StringInfo) PG_GETARG_POINTER(0);
	int		   length;

	PG_RETURN_OID(read_role(pq_getmsgtext(message, message->len - message->cursor, &length)));
}

Datum
outbox_grantee_send(PG_FUNCTION_ARGS)
{
	const char	  *text = DatumGetCString(DirectFunctionCall1(regroleout, PG_GETARG_DATUM(0)));
	StringInfoData message;

	pq_begintypsend(&message);
	pq_sendtext(&message, text, (int) strlen(text));
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}
