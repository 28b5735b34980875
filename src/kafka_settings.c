/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_settings.c
 *	  librdkafka properties of the server.
 *
 * Runs in the relay and in the backend that calls start_relay().  The setting
 * was checked when it was set, the file is checked here each time it is read.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "storage/fd.h"

#include "common/kafka_properties.h"
#include "guc.h"
#include "kafka_settings.h"

#define FILE_MAX_BYTES	65536

/* Owner: this process's user (no rights of others) or root (group may read). */
static void
check_file_rights(const struct stat *info, const char *path)
{
	mode_t		forbidden;

	if (!S_ISREG(info->st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" (outbox.kafka_properties_file) is not a regular file", path)));
	if (info->st_uid != geteuid() && info->st_uid != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" (outbox.kafka_properties_file) must belong to the server's user or to root", path)));
	forbidden = info->st_uid == 0 && geteuid() != 0
		? S_IWGRP | S_IXGRP | S_IRWXO
		: S_IRWXG | S_IRWXO;
	if (info->st_mode & forbidden)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" (outbox.kafka_properties_file) can be read or written by others", path),
				 errhint("Set its mode to 0600, or to 0640 if it belongs to root.")));
	if (info->st_size > FILE_MAX_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" (outbox.kafka_properties_file) is larger than %d bytes",
						path, FILE_MAX_BYTES)));
}

/*
 * The whole file, with a terminator; *length without it.  O_NONBLOCK: a FIFO
 * without a writer would hold the open back for ever.  The file is closed before
 * anything is raised: the relay goes on after such an error.
 */
static char *
read_file(const char *path, size_t *length)
{
	int			file = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | PG_BINARY);
	char	   *content = palloc(FILE_MAX_BYTES + 1);
	struct stat info;
	ssize_t		got;
	int			error = errno;

	*length = 0;
	got = file < 0 || fstat(file, &info) != 0 ? -1 : 0;
	if (got == 0 && S_ISREG(info.st_mode))
	{
		while ((got = read(file, content + *length, FILE_MAX_BYTES - *length)) > 0)
			*length += got;
	}
	if (file >= 0)
	{
		error = errno;
		CloseTransientFile(file);
	}
	errno = error;
	if (got < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\" (outbox.kafka_properties_file): %m", path)));
	check_file_rights(&info, path);
	content[*length] = '\0';
	return content;
}

static void
append_file(StringInfo text, const char *path)
{
	size_t		length;
	char	   *content = read_file(path, &length);
	char		error[256];

	if (strlen(content) != length)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" (outbox.kafka_properties_file) contains a zero byte", path)));
	if (!outbox_kafka_properties_parse(content, OUTBOX_KAFKA_PRODUCER, NULL, NULL,
									   error, sizeof(error)))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" (outbox.kafka_properties_file) is not valid", path),
				 errdetail("%s", error)));
	appendStringInfo(text, "\n%s", content);
	explicit_bzero(content, length);
	pfree(content);
}

char *
outbox_kafka_settings_read(void)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, outbox_guc_kafka_properties);
	if (outbox_guc_kafka_properties_file[0] != '\0')
		append_file(&text, outbox_guc_kafka_properties_file);
	return text.data;
}

static bool
find_bootstrap(const char *name, const char *value, void *arg)
{
	/* librdkafka takes either name. */
	if ((strcmp(name, "bootstrap.servers") == 0 ||
		 strcmp(name, "metadata.broker.list") == 0) && value[0] != '\0')
		*(bool *) arg = true;
	return true;
}

bool
outbox_kafka_settings_complete(void)
{
	char	   *text = outbox_kafka_settings_read();
	bool		found = false;
	char		error[256];

	if (!outbox_kafka_properties_parse(text, OUTBOX_KAFKA_PRODUCER, find_bootstrap, &found,
									   error, sizeof(error)))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("the Kafka properties are not valid"),
				 errdetail("%s", error)));
	pfree(text);
	return found;
}
