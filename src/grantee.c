/* SPDX-License-Identifier: PostgreSQL
 *
 * grantee.c
 *	  The type outbox.grantee: a role of outbox.topic_grant.
 *
 * Runs in application backends.  Stored and written as regrole is: by number, shown by name, so it
 * follows a rename.  Read differently: a dump that names a role which does not exist here is loaded
 * without it, with a warning, and a number, which is all that is left of a role that was dropped, is
 * nobody: here it would be somebody else.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(outbox_grantee_in);
PG_FUNCTION_INFO_V1(outbox_grantee_out);

/* The number of a role of that name, as an identifier is written; InvalidOid with a warning when there is none. */
Datum
outbox_grantee_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);
	bool		is_name = strspn(text, "0123456789") < strlen(text) && strcmp(text, "-") != 0;
	List	   *names = NIL;
	Oid			role = InvalidOid;

	if (is_name)
	{
		if (!SplitIdentifierString(pstrdup(text), '.', &names) || list_length(names) != 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_NAME),
					 errmsg("invalid name of a role: \"%s\"", text)));
		role = get_role_oid(linitial(names), true);
	}
	if (!OidIsValid(role))
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role %s does not exist: its right to emit is left out", text),
				 errhint("Create the role, then call outbox.grant_topic().")));
	PG_RETURN_OID(role);
}

/* The role's name, quoted where it must be; of one that was dropped its number. */
Datum
outbox_grantee_out(PG_FUNCTION_ARGS)
{
	return DirectFunctionCall1(regroleout, PG_GETARG_DATUM(0));
}
