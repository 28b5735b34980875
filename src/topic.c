/* SPDX-License-Identifier: PostgreSQL
 *
 * topic.c
 *	  Topic names, declared topics and the right to emit to them.
 *
 * Runs in application backends.  Each process keeps a copy of outbox.topic and outbox.topic_grant.
 * The triggers of both tables send a relcache invalidation at commit (declare.c,
 * outbox_topics_changed); that, or any change of roles or schemas, drops the copy.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "guc.h"
#include "leaf.h"
#include "topic.h"
#include "src/common/topic_names.h"

#define MAX_REMEMBERED		4096  /* topics with a remembered answer */
#define MAX_PARTITIONS		10000 /* of a topic */
#define LEAST_MESSAGE_BYTES 1024

/* Columns of outbox.topic. */
#define TOPIC_CLEANUP_POLICY	5
#define TOPIC_MAX_MESSAGE_BYTES 6

/* A topic seen before. */
typedef struct KnownTopic
{
	char			 name[OUTBOX_TOPIC_NAME_MAX + 1]; /* hash key */
	bool			 declared;
	OutboxTopicRules rules;		   /* if declared */
	Oid				 allowed_user; /* last user found to have the right */
} KnownTopic;

/* A row of outbox.topic_grant. */
typedef struct TopicGrant
{
	char topic[OUTBOX_TOPIC_NAME_MAX + 1];
	Oid	 grantee;
} TopicGrant;

static MemoryContext cache_context = NULL;
static HTAB			*known_topics = NULL;
static TopicGrant	*grants = NULL;
static int			 grant_count = 0;
static Acl			*schema_acl = NULL; /* while the cache is loaded */
static Oid			 topic_relation = InvalidOid;
static Oid			 grant_relation = InvalidOid;
static bool			 cache_valid = false;
static bool			 cache_changed = false; /* an invalidation came while loading */

static void
forget_cache(void)
{
	cache_valid = false;
	cache_changed = true;
}

static void
forget_after_relcache(Datum arg, Oid relation)
{
	if (relation == InvalidOid || relation == topic_relation || relation == grant_relation)
		forget_cache();
}

static void
forget_after_syscache(Datum arg, int cache_id, uint32 hash_value)
{
	forget_cache();
}

static void
register_callbacks(void)
{
	static bool registered = false;

	if (registered)
		return;
	CacheRegisterRelcacheCallback(forget_after_relcache, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, forget_after_syscache, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, forget_after_syscache, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_after_syscache, (Datum) 0);
	registered = true;
}

static void
start_cache(void)
{
	HASHCTL control = {0};

	if (cache_context == NULL)
		cache_context =
			AllocSetContextCreate(TopMemoryContext, "outbox topics", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(cache_context);
	control.keysize = OUTBOX_TOPIC_NAME_MAX + 1;
	control.entrysize = sizeof(KnownTopic);
	control.hcxt = cache_context;
	known_topics =
		hash_create("outbox topics", 64, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	grants = NULL;
	grant_count = 0;
}

static KnownTopic *
remember_topic(const char *name, bool declared)
{
	bool		found;
	KnownTopic *topic = hash_search(known_topics, name, HASH_ENTER, &found);

	if (!found)
	{
		topic->declared = false;
		topic->rules = (OutboxTopicRules) {0};
		topic->allowed_user = InvalidOid;
	}
	topic->declared |= declared;
	return topic;
}

static void
load_topic(TupleTableSlot *slot)
{
	bool		isnull;
	char	   *name = TextDatumGetCString(slot_getattr(slot, 1, &isnull));
	char	   *policy = NULL;
	Datum		value = slot_getattr(slot, TOPIC_CLEANUP_POLICY, &isnull);
	KnownTopic *topic;

	if (!isnull)
		policy = TextDatumGetCString(value);
	value = slot_getattr(slot, TOPIC_MAX_MESSAGE_BYTES, &isnull);
	if (strlen(name) <= OUTBOX_TOPIC_NAME_MAX)
	{
		topic = remember_topic(name, true);
		topic->rules.compacted = policy != NULL && strstr(policy, "compact") != NULL;
		topic->rules.max_message_bytes = isnull ? 0 : DatumGetInt32(value);
	}
	pfree(name);
}

/* The privileges on the schema, a copy; NULL: nobody but the owner has any. */
static Acl *
read_schema_acl(void)
{
	HeapTuple schema =
		SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(get_namespace_oid("outbox", false)));
	bool  isnull = true;
	Datum acl = 0;
	Acl	 *copy;

	if (!HeapTupleIsValid(schema))
		return NULL;
	acl = SysCacheGetAttr(NAMESPACEOID, schema, Anum_pg_namespace_nspacl, &isnull);
	copy = isnull ? NULL : DatumGetAclPCopy(acl);
	ReleaseSysCache(schema);
	return copy;
}

/*
 * Has the role itself a privilege on the schema?  A role that was dropped has not, nor has the
 * next one with its number until it is admitted (outbox.admit).
 */
static bool
is_admitted(Oid role)
{
	AclItem *items = schema_acl == NULL ? NULL : ACL_DAT(schema_acl);
	int		 count = schema_acl == NULL ? 0 : ACL_NUM(schema_acl);

	for (int i = 0; i < count; i++)
	{
		if (items[i].ai_grantee == role)
			return true;
	}
	return false;
}

static void
load_grant(TupleTableSlot *slot)
{
	bool		isnull;
	Oid			grantee = DatumGetObjectId(slot_getattr(slot, 2, &isnull));
	char	   *name;
	TopicGrant *grant;

	if (!is_admitted(grantee))
		return;
	name = TextDatumGetCString(slot_getattr(slot, 1, &isnull));
	/* Doubled whenever the count reaches a power of two. */
	if (grants == NULL)
		grants = MemoryContextAlloc(cache_context, sizeof(TopicGrant));
	else if ((grant_count & (grant_count - 1)) == 0)
		grants = repalloc_huge(grants, sizeof(TopicGrant) * 2 * grant_count);
	grant = &grants[grant_count++];
	strlcpy(grant->topic, name, sizeof(grant->topic));
	grant->grantee = grantee;
	pfree(name);
}

/*
 * SnapshotSelf: rows committed by now and this transaction's own, whatever
 * snapshot the caller has; not an MVCC snapshot, so no predicate lock.
 */
static void
load_relation(Oid relation_oid, void (*load_row)(TupleTableSlot *slot))
{
	Relation		relation = table_open(relation_oid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	TableScanDesc	scan = outbox_compat_table_beginscan(relation, SnapshotSelf);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		load_row(slot);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(relation, AccessShareLock);
}

static void
load_cache(void)
{
	register_callbacks();
	topic_relation = outbox_leaf_named_relation("topic");
	grant_relation = outbox_leaf_named_relation("topic_grant");
	cache_valid = false;
	cache_changed = false;
	start_cache();
	load_relation(topic_relation, load_topic);
	schema_acl = read_schema_acl();
	load_relation(grant_relation, load_grant);
	schema_acl = NULL;
	cache_valid = !cache_changed;
}

static bool
is_legal_name(const char *name, int len)
{
	bool legal = len > 0 && len <= OUTBOX_TOPIC_NAME_MAX;

	for (int i = 0; i < len && legal; i++)
		legal = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
			(name[i] >= '0' && name[i] <= '9') || name[i] == '.' || name[i] == '_' ||
			name[i] == '-';
	return legal && !(len == 1 && name[0] == '.') &&
		!(len == 2 && name[0] == '.' && name[1] == '.');
}

/* Do the names differ at most in "." and "_"? */
static bool
are_alike(const char *name, int len, const char *other, int other_len)
{
	bool alike = len == other_len;

	for (int i = 0; i < len && alike; i++)
		alike = (name[i] == '.' ? '_' : name[i]) == (other[i] == '.' ? '_' : other[i]);
	return alike;
}

/* Would the other's dead-letter topic be one with the topic in Kafka, though it is another? */
static bool
is_like_letters_of(const char *name, const char *other)
{
	char *letters = psprintf("%s" OUTBOX_DLT_SUFFIX, other);
	bool  alike = strcmp(name, letters) != 0 &&
		are_alike(name, (int) strlen(name), letters, (int) strlen(letters));

	pfree(letters);
	return alike;
}

bool
outbox_topic_names_collide(const char *name, const char *other)
{
	if (strcmp(name, other) == 0)
		return false;
	return are_alike(name, (int) strlen(name), other, (int) strlen(other)) ||
		is_like_letters_of(name, other) || is_like_letters_of(other, name);
}

void
outbox_topic_refuse_collision(const char *name, const char *other)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("topic \"%s\" collides with topic \"%s\"", name, other),
			 errdetail("Kafka has no two topics whose names differ in \".\" and \"_\" alone; each "
					   "topic has its dead-letter topic \"<name>%s\", too.",
					   OUTBOX_DLT_SUFFIX),
			 errhint("Use topic \"%s\", or another name.", other)));
}

static bool
is_reserved_name(const char *name, int len)
{
	return (len >= 2 && name[0] == '_' && name[1] == '_') ||
		are_alike(name, len, OUTBOX_CURSOR_TOPIC, (int) strlen(OUTBOX_CURSOR_TOPIC));
}

const char *
outbox_topic_bad_value(const OutboxTopicValues *values, const char **allowed)
{
	const char *policy = values->cleanup_policy;
	int			len = (int) strlen(values->name);

	*allowed = "a legal topic name that is not reserved";
	if (!is_legal_name(values->name, len) || is_reserved_name(values->name, len))
		return "name";
	*allowed = "1 to 10000";
	if (values->partitions < 1 || values->partitions > MAX_PARTITIONS)
		return "partitions";
	*allowed = "1 to 32767, or NULL for the broker's default";
	if (values->has_replication && (values->replication < 1 || values->replication > PG_INT16_MAX))
		return "replication_factor";
	*allowed = "-1 (for ever) or more, or NULL for the broker's default";
	if (values->has_retention && values->retention_ms < -1)
		return "retention_ms";
	*allowed = "delete, compact, \"compact,delete\", or NULL for the broker's default";
	if (policy != NULL && strcmp(policy, "delete") != 0 && strcmp(policy, "compact") != 0 &&
		strcmp(policy, "compact,delete") != 0)
		return "cleanup_policy";
	*allowed = "1024 to 2147483647, or NULL for the broker's default";
	if (values->has_max_bytes &&
		(values->max_message_bytes < LEAST_MESSAGE_BYTES ||
		 values->max_message_bytes > PG_INT32_MAX))
		return "max_message_bytes";
	*allowed = "hold, wait";
	if (values->on_unavailable != NULL && strcmp(values->on_unavailable, "hold") != 0 &&
		strcmp(values->on_unavailable, "wait") != 0)
		return "on_unavailable";
	return NULL;
}

void
outbox_topic_check_name(const char *name, int len)
{
	if (!is_legal_name(name, len))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" is not a legal topic name",
						pnstrdup(name, pg_mbcliplen(name, len, OUTBOX_TOPIC_NAME_MAX))),
				 errdetail("Kafka allows 1 to %d characters of a-z, A-Z, 0-9, \".\", \"_\" and "
						   "\"-\", except \".\" and \"..\".",
						   OUTBOX_TOPIC_NAME_MAX)));

	if (is_reserved_name(name, len))
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME),
				 errmsg("topic name \"%s\" is reserved", pnstrdup(name, len)),
				 errdetail("Names beginning with \"__\" belong to Kafka, \"%s\" to the relay.",
						   OUTBOX_CURSOR_TOPIC)));
}

/* Name without the dead-letter suffix in `base`; false when it has none. */
static bool
strip_dead_letter_suffix(const char *name, char *base)
{
	size_t len = strlen(name);
	size_t suffix = strlen(OUTBOX_DLT_SUFFIX);

	if (len <= suffix || strcmp(name + len - suffix, OUTBOX_DLT_SUFFIX) != 0)
		return false;
	strlcpy(base, name, len - suffix + 1);
	return true;
}

static bool
is_declared(const char *name)
{
	char		base[OUTBOX_TOPIC_NAME_MAX + 1];
	KnownTopic *topic = hash_search(known_topics, name, HASH_FIND, NULL);

	if (topic != NULL && topic->declared)
		return true;
	return strip_dead_letter_suffix(name, base) && is_declared(base);
}

static bool
is_granted(const char *name, Oid user)
{
	char base[OUTBOX_TOPIC_NAME_MAX + 1];

	for (int i = 0; i < grant_count; i++)
	{
		if ((strcmp(grants[i].topic, name) == 0 ||
			 strcmp(grants[i].topic, OUTBOX_EVERY_TOPIC) == 0) &&
			has_privs_of_role(user, grants[i].grantee))
			return true;
	}
	return strip_dead_letter_suffix(name, base) && is_granted(base, user);
}

/* Superusers too. */
static bool
is_owner(Oid user)
{
	HeapTuple schema =
		SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(get_namespace_oid("outbox", false)));
	Oid owner;

	if (!HeapTupleIsValid(schema))
		return false;
	owner = ((Form_pg_namespace) GETSTRUCT(schema))->nspowner;
	ReleaseSysCache(schema);
	return has_privs_of_role(user, owner);
}

static bool
may_emit(const char *name, Oid user, bool *declared)
{
	*declared = is_declared(name);
	return (*declared || !outbox_guc_require_declared_topics) &&
		(is_granted(name, user) || is_owner(user));
}

static void
refuse_emit(const char *name, Oid user, bool declared)
{
	if (!declared && outbox_guc_require_declared_topics)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("topic \"%s\" is not declared", name),
				 errdetail("outbox.require_declared_topics is on."),
				 errhint("Declare it: SELECT outbox.declare_topic(%s);",
						 quote_literal_cstr(name))));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to emit to topic \"%s\"", name),
			 errdetail("Role \"%s\" has no grant on this topic.", GetUserNameFromId(user, false)),
			 errhint("Grant it: SELECT outbox.grant_topic(%s, %s);", quote_literal_cstr(name),
					 quote_literal_cstr(quote_identifier(GetUserNameFromId(user, false))))));
}

/* Only of a topic that is not declared: of two that are, nobody knows here which one Kafka has. */
static void
refuse_alike(const char *name)
{
	HASH_SEQ_STATUS	  sequence;
	const KnownTopic *topic;
	const KnownTopic *alike = NULL;

	hash_seq_init(&sequence, known_topics);
	while ((topic = hash_seq_search(&sequence)) != NULL)
	{
		if (topic->declared && outbox_topic_names_collide(name, topic->name) &&
			(alike == NULL || strcmp(topic->name, alike->name) < 0))
			alike = topic;
	}
	if (alike != NULL)
		outbox_topic_refuse_collision(name, alike->name);
}

/* A topic without a remembered answer for this user. */
static void
check_unknown(const char *name, Oid user)
{
	bool		declared;
	KnownTopic *topic;

	outbox_topic_check_name(name, (int) strlen(name));
	if (!may_emit(name, user, &declared))
	{
		/* The copy may be older than a change whose message is still under way. */
		AcceptInvalidationMessages();
		load_cache();
		if (!may_emit(name, user, &declared))
			refuse_emit(name, user, declared);
	}
	if (!declared)
		refuse_alike(name);
	if (hash_get_num_entries(known_topics) >= MAX_REMEMBERED &&
		hash_search(known_topics, name, HASH_FIND, NULL) == NULL)
		return;
	topic = remember_topic(name, declared);
	topic->allowed_user = user;
}

void
outbox_topic_check_emit(const char *name, int len, Oid user)
{
	char		key[OUTBOX_TOPIC_NAME_MAX + 1];
	KnownTopic *topic;

	if (len > OUTBOX_TOPIC_NAME_MAX)
		outbox_topic_check_name(name, len);
	memcpy(key, name, len);
	key[len] = '\0';

	if (!cache_valid)
		load_cache();
	topic = hash_search(known_topics, key, HASH_FIND, NULL);
	if (topic == NULL || topic->allowed_user != user ||
		(!topic->declared && outbox_guc_require_declared_topics))
		check_unknown(key, user);
}

OutboxTopicRules
outbox_topic_rules(const char *name, int len)
{
	char		key[OUTBOX_TOPIC_NAME_MAX + 1];
	KnownTopic *topic;

	if (len > OUTBOX_TOPIC_NAME_MAX)
		return (OutboxTopicRules) {0};
	memcpy(key, name, len);
	key[len] = '\0';
	if (!cache_valid)
		load_cache();
	topic = hash_search(known_topics, key, HASH_FIND, NULL);
	return topic == NULL || !topic->declared ? (OutboxTopicRules) {0} : topic->rules;
}
