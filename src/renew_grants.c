/* SPDX-License-Identifier: PostgreSQL
 *
 * renew_grants.c
 *	  outbox.renew_grants(): what the grants bring now, for roles that have them.
 *
 * Runs in the backend that executes an update script, as the extension's owner.  A GRANT of the
 * script itself would be noted as the extension's own (pg_init_privs), and pg_dump leaves those
 * out: the role would have lost it in a restored database.
 */
#include "postgres.h"

#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"

PG_FUNCTION_INFO_V1(outbox_renew_grants);

Datum
outbox_renew_grants(PG_FUNCTION_ARGS)
{
	bool in_script = creating_extension;
	int	 result;

	SPI_connect();
	PG_TRY();
	{
		creating_extension = false;
		result = SPI_execute("SELECT outbox.give_again()", false, 0);
		if (result != SPI_OK_SELECT)
			elog(ERROR, "could not renew the grants: %s", SPI_result_code_string(result));
	}
	PG_FINALLY();
	{
		creating_extension = in_script;
	}
	PG_END_TRY();
	SPI_finish();
	PG_RETURN_VOID();
}
