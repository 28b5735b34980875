/* SPDX-License-Identifier: PostgreSQL
 *
 * module.c
 *	  Entry point of the library.
 *
 * Runs in the postmaster when preloaded, else in the backend that first calls a
 * function of the extension; then emit() works, but nothing relays.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "compat.h"
#include "guc.h"
#include "shmem.h"
#include "utility.h"
#include "bgworker/launcher/launcher.h"

OUTBOX_COMPAT_MODULE_MAGIC("outbox", OUTBOX_VERSION);

PG_FUNCTION_INFO_V1(outbox_version);

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	outbox_guc_define();
	if (!process_shared_preload_libraries_in_progress)
		return;
	outbox_shmem_request();
	outbox_launcher_register();
	outbox_utility_install();
}

/* outbox.version(): of this library. */
Datum
outbox_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(OUTBOX_VERSION));
}
