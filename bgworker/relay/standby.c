/* SPDX-License-Identifier: PostgreSQL
 *
 * standby.c
 *	  Synchronous standbys, and what they must have before a batch is sent (I2).
 *
 * Runs in the relay, which asks and never waits here (I5).
 */
#include "postgres.h"

#include "access/xlog.h"
#include "replication/message.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"

#include "standby.h"
#include "src/compat.h"

XLogRecPtr
outbox_standby_fence(void)
{
	XLogRecPtr lsn = outbox_compat_log_message("outbox", "fence", 5);

	XLogFlush(lsn);
	return lsn;
}

bool
outbox_standby_exists(void)
{
	uint8 status;

	if (max_wal_senders == 0)
		return false;
	status = ((volatile WalSndCtlData *) WalSndCtl)->sync_standbys_status;
	return (status & (SYNC_STANDBY_INIT | SYNC_STANDBY_DEFINED)) != SYNC_STANDBY_INIT;
}

bool
outbox_standby_has(XLogRecPtr lsn)
{
	XLogRecPtr flushed;

	if (!outbox_standby_exists())
		return true;
	LWLockAcquire(SyncRepLock, LW_SHARED);
	flushed = WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH];
	LWLockRelease(SyncRepLock);
	return flushed >= lsn;
}
