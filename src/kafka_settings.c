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

#include "storage/fd.h"

#include "guc.h"
#include "kafka_settings.h"
#include "src/common/kafka_properties.h"
#include "src/common/kafka_property_text.h"

#define FILE_MAX_BYTES 65536

/* Owner: this process's user (no rights of others) or root (group may read). */
static void
check_file_rights(const struct stat *info, const char *path)
{
	mode_t forbidden;

	if (!S_ISREG(info->st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" (outbox.kafka_properties_file) is not a regular file", path)));
	if (info->st_uid != geteuid() && info->st_uid != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" (outbox.kafka_properties_file) must belong to the server's "
						"user or to root",
						path)));
	forbidden =
		info->st_uid == 0 && geteuid() != 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO;
	if (info->st_mode & forbidden)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" (outbox.kafka_properties_file) can be read or written by "
						"others",
						path),
				 errhint("Set its mode to 0600, or to 0640 if it belongs to root.")));
	if (info->st_size > FILE_MAX_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" (outbox.kafka_properties_file) is larger than %d bytes", path,
						FILE_MAX_BYTES)));
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

/* The file's text; ERROR when it is not what it should be. */
static char *
load_file(const char *path)
{
	size_t length;
	char  *content = read_file(path, &length);
	char   error[256];

	if (strlen(content) != length)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" (outbox.kafka_properties_file) contains a zero byte", path)));
	if (!outbox_kafka_properties_parse(content, OUTBOX_KAFKA_PRODUCER, NULL, NULL, error,
									   sizeof(error)))
	{
		explicit_bzero(content, length);
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" (outbox.kafka_properties_file) is not valid", path),
				 errdetail("%s", error)));
	}
	return content;
}

OutboxKafkaSettings *
outbox_kafka_settings_read(void)
{
	OutboxKafkaSettings *settings = palloc0(sizeof(OutboxKafkaSettings));

	settings->setting = pstrdup(outbox_guc_kafka_properties);
	outbox_kafka_properties_unescape(settings->setting);
	if (outbox_guc_kafka_properties_file[0] != '\0')
		settings->file = load_file(outbox_guc_kafka_properties_file);
	return settings;
}

void
outbox_kafka_settings_each(const OutboxKafkaSettings *settings, OutboxKafkaPropertyFn fn, void *arg)
{
	const char *const texts[] = {settings->setting, settings->file};
	char			  error[256];

	for (size_t i = 0; i < lengthof(texts); i++)
	{
		if (texts[i] != NULL &&
			!outbox_kafka_properties_parse(texts[i], OUTBOX_KAFKA_PRODUCER, fn, arg, error,
										   sizeof(error)))
			ereport(ERROR,
					(errcode(ERRCODE_CONFIG_FILE_ERROR),
					 errmsg("the Kafka properties are not valid"), errdetail("%s", error)));
	}
}

void
outbox_kafka_settings_free(OutboxKafkaSettings *settings)
{
	if (settings->file != NULL)
	{
		explicit_bzero(settings->file, strlen(settings->file));
		pfree(settings->file);
	}
	pfree(settings->setting);
	pfree(settings);
}

static bool
find_bootstrap(const char *name, const char *value, void *arg, char *reason, size_t reason_size)
{
	if (strcmp(outbox_kafka_property_first_name(name), "bootstrap.servers") == 0 &&
		value[0] != '\0')
		*(bool *) arg = true;
	return true;
}

bool
outbox_kafka_settings_complete(const OutboxKafkaSettings *settings)
{
	bool found = false;

	outbox_kafka_settings_each(settings, find_bootstrap, &found);
	return found;
}
