/* SPDX-License-Identifier: PostgreSQL
 *
 * marker.c
 *	  The file outbox.marker in the data directory, which a copy of the directory's files gives
 *	  away.
 *
 * The launcher writes it before any relay runs, relays read it.  All databases of the server share
 * it, so what one of them accepts is in outbox.installation: a marker written in a copy has an id
 * that none of them knows.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "marker.h"

#define TEMPORARY_FILE OUTBOX_MARKER_FILE ".tmp"
#define TEXT_SIZE	   512

/* ----------------------------------------------------------------- pure */

void
outbox_marker_format(char *text, size_t size, const OutboxMarker *marker)
{
	char id[2 * UUID_LEN + 1];

	for (int i = 0; i < UUID_LEN; i++)
		snprintf(id + 2 * i, 3, "%02x", marker->id.data[i]);
	snprintf(text, size,
			 "outbox marker 1: holds its own inode and birth time, written by outbox; do not edit "
			 "or copy it\n"
			 "id=%s\ninode=" UINT64_FORMAT "\nborn=" INT64_FORMAT "." INT64_FORMAT
			 "\ncopied=%d\ntimeline=%d\nmade=" INT64_FORMAT "\n",
			 id, marker->inode, marker->born_s, marker->born_ns, marker->copied, marker->timeline,
			 (int64) marker->made_at);
}

bool
outbox_marker_parse(const char *text, OutboxMarker *marker)
{
	char			   id[2 * UUID_LEN + 1];
	int				   copied;
	int				   timeline;
	long long unsigned inode;
	long long		   born_s;
	long long		   born_ns;
	long long		   made;

	if (sscanf(text,
			   "outbox marker "
			   "1:%*[^\n]\nid=%32[0-9a-f]\ninode=%llu\nborn=%lld.%lld\ncopied=%d\ntimeline=%"
			   "d\nmade=%lld",
			   id, &inode, &born_s, &born_ns, &copied, &timeline, &made) != 7 ||
		strlen(id) != 2 * UUID_LEN)
		return false;
	for (int i = 0; i < UUID_LEN; i++)
	{
		unsigned int byte;

		if (sscanf(id + 2 * i, "%2x", &byte) != 1)
			return false;
		marker->id.data[i] = (unsigned char) byte;
	}
	marker->inode = inode;
	marker->born_s = born_s;
	marker->born_ns = born_ns;
	marker->copied = copied != 0;
	marker->timeline = timeline;
	marker->made_at = made;
	return true;
}

bool
outbox_marker_fits(const OutboxMarker *marker, uint64 inode, int64 born_s, int64 born_ns)
{
	if (marker->inode != inode)
		return false;
	return marker->born_s < 0 || born_s < 0 ||
		(marker->born_s == born_s && marker->born_ns == born_ns);
}

/*
 * A database without a memory that is older than the copy was copied along; a younger one was made
 * here.  One whose relay has not run on this timeline is a copy's where the files were copied on
 * this timeline.
 */
OutboxMarkerVerdict
outbox_marker_judge(const OutboxMarker *marker, bool fits, const OutboxAccepted *accepted,
					int timeline)
{
	bool known = accepted->present && marker != NULL &&
		memcmp(&accepted->id, &marker->id, sizeof(pg_uuid_t)) == 0;

	if (accepted->present && timeline > accepted->timeline)
		return marker != NULL && fits && !known && marker->copied && marker->timeline == timeline ?
			OUTBOX_MARKER_COPIED :
			OUTBOX_MARKER_LATER;
	if (marker == NULL)
		return OUTBOX_MARKER_UNKNOWN;
	if (!fits)
		return OUTBOX_MARKER_COPIED;
	if (known)
		return OUTBOX_MARKER_FITS;
	if (marker->copied && (accepted->present || accepted->created_at < marker->made_at))
		return OUTBOX_MARKER_COPIED;
	return OUTBOX_MARKER_UNKNOWN;
}

/*
 * One copied along with a promoted or recovered server is no copy's; a fitting one learns of the
 * timeline, on which nothing has been copied yet.
 */
bool
outbox_marker_plan(const OutboxMarker *found, bool fits, int timeline, OutboxMarker *next)
{
	memset(next, 0, sizeof(*next));
	if (found != NULL && fits)
	{
		*next = *found;
		next->copied = found->copied && found->timeline >= timeline;
	}
	else
		next->copied = found != NULL && found->timeline >= timeline;
	next->timeline = timeline;
	return found == NULL || !fits || found->timeline < timeline;
}

/* ----------------------------------------------------------------- file */

bool
outbox_marker_stat(int fd, uint64 *inode, int64 *born_s, int64 *born_ns)
{
	struct statx status;
	struct stat	 plain;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status) != 0)
	{
		/* an old seccomp filter knows no statx */
		if (fstat(fd, &plain) != 0)
			return false;
		*inode = plain.st_ino;
		*born_s = -1;
		*born_ns = 0;
		return true;
	}
	*inode = status.stx_ino;
	*born_s = (status.stx_mask & STATX_BTIME) != 0 ? (int64) status.stx_btime.tv_sec : -1;
	*born_ns = (status.stx_mask & STATX_BTIME) != 0 ? (int64) status.stx_btime.tv_nsec : 0;
	return true;
}

bool
outbox_marker_read(OutboxMarker *marker, bool *fits)
{
	char	text[TEXT_SIZE];
	uint64	inode;
	int64	born_s;
	int64	born_ns;
	ssize_t got;
	int		fd = OpenTransientFile(OUTBOX_MARKER_FILE, O_RDONLY | PG_BINARY);

	*fits = false;
	if (fd < 0)
	{
		if (errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not open file \"%s\": %m", OUTBOX_MARKER_FILE)));
		return false;
	}
	got = read(fd, text, sizeof(text) - 1);
	if (got < 0 || !outbox_marker_stat(fd, &inode, &born_s, &born_ns))
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", OUTBOX_MARKER_FILE)));
		CloseTransientFile(fd);
		return false;
	}
	CloseTransientFile(fd);
	text[got] = '\0';
	memset(marker, 0, sizeof(*marker));
	*fits = outbox_marker_parse(text, marker) && outbox_marker_fits(marker, inode, born_s, born_ns);
	return true;
}

static bool
write_marker(int fd, OutboxMarker *marker)
{
	char text[TEXT_SIZE];

	if (!outbox_marker_stat(fd, &marker->inode, &marker->born_s, &marker->born_ns))
		return false;
	outbox_marker_format(text, sizeof(text), marker);
	errno = ENOSPC; /* what a short write means */
	return write(fd, text, strlen(text)) == (ssize_t) strlen(text) && pg_fsync(fd) == 0;
}

static void
make_marker(OutboxMarker *marker)
{
	int	 fd;
	bool written;

	/* a file of its own, so that its birth is now */
	(void) unlink(TEMPORARY_FILE);
	fd = OpenTransientFile(TEMPORARY_FILE, O_RDWR | O_CREAT | O_EXCL | PG_BINARY);
	written = fd >= 0 && write_marker(fd, marker);
	if (!written)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", TEMPORARY_FILE),
				 errdetail("Until it can, host name and path tell whether this data directory was "
						   "copied.")));
	if (fd >= 0)
		CloseTransientFile(fd);
	if (written)
		(void) durable_rename(TEMPORARY_FILE, OUTBOX_MARKER_FILE, LOG);
}

void
outbox_marker_ensure(void)
{
	OutboxMarker found;
	OutboxMarker next;
	bool		 fits;
	bool		 present = outbox_marker_read(&found, &fits);

	if (!outbox_marker_plan(present ? &found : NULL, fits, (int) GetWALInsertionTimeLine(), &next))
		return;
	if (!present || !fits)
	{
		next.made_at = GetCurrentTimestamp();
		if (!pg_strong_random(next.id.data, UUID_LEN))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not make a random id")));
	}
	if (next.copied && present && !fits)
		ereport(LOG,
				(errmsg("the data directory was copied or moved: file \"%s\" does not fit",
						OUTBOX_MARKER_FILE),
				 errdetail("Relays of its databases hold until outbox.adopt().")));
	make_marker(&next);
}
