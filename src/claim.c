/* SPDX-License-Identifier: PostgreSQL
 *
 * claim.c
 *	  outbox.claim and claim_many: the first of several deliveries of an event.
 *
 * Runs in the backends of consumers, as the extension's owner (SECURITY DEFINER).
 * The row commits or rolls back with the caller's work.  A concurrent twin waits
 * on the unique index for the first one's outcome.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#define CONSUMER_MAX 255 /* bytes */

#define CLAIM_QUERY \
	"INSERT INTO outbox.idempotency (event_id, consumer) VALUES ($2, $1)" \
	" ON CONFLICT DO NOTHING"

/* Sorted: two batches lock what they share in one order. */
#define CLAIM_MANY_QUERY \
	"INSERT INTO outbox.idempotency (event_id, consumer)" \
	" SELECT id, $1 FROM (SELECT DISTINCT id FROM pg_catalog.unnest($2) AS id" \
	" ORDER BY id) AS ids" \
	" ON CONFLICT DO NOTHING RETURNING event_id"

PG_FUNCTION_INFO_V1(outbox_claim);
PG_FUNCTION_INFO_V1(outbox_claim_many);

/* An id this call inserted. */
typedef struct ClaimedId
{
	pg_uuid_t id;
	bool	  reported; /* its first place in the input is true already */
} ClaimedId;

static void
check_consumer(text *consumer)
{
	int len = VARSIZE_ANY_EXHDR(consumer);

	if (len == 0 || len > CONSUMER_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("name of a consumer must have 1 to %d bytes", CONSUMER_MAX),
				 errdetail("It has %d.", len)));
}

/* Prepared once per process, replanned by itself when the table changes. */
static void
execute_claim(SPIPlanPtr *plan, const char *query, Oid id_type, Datum consumer, Datum ids,
			  int expected)
{
	Oid	  types[2] = {TEXTOID, id_type};
	Datum values[2] = {consumer, ids};
	int	  result;

	if (*plan == NULL)
	{
		SPIPlanPtr prepared = SPI_prepare(query, 2, types);

		if (prepared == NULL || SPI_keepplan(prepared) != 0)
			elog(ERROR, "could not prepare a claim: %s", SPI_result_code_string(SPI_result));
		*plan = prepared;
	}
	result = SPI_execute_plan(*plan, values, NULL, false, 0);
	if (result != expected)
		elog(ERROR, "could not claim: %s", SPI_result_code_string(result));
}

static void
refuse_null(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("consumer and event id of a claim must not be null")));
}

/* claim(consumer text, event_id uuid) returns boolean */
Datum
outbox_claim(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	bool			  first;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		refuse_null();
	check_consumer(PG_GETARG_TEXT_PP(0));

	SPI_connect();
	execute_claim(&plan, CLAIM_QUERY, UUIDOID, PG_GETARG_DATUM(0), PG_GETARG_DATUM(1),
				  SPI_OK_INSERT);
	first = SPI_processed == 1;
	SPI_finish();
	PG_RETURN_BOOL(first);
}

/* ClaimedId starts with the id, so this also compares a bare id. */
static int
compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, UUID_LEN);
}

/* The inserted ids, sorted; inside SPI. */
static ClaimedId *
collect_claimed(uint64 count)
{
	ClaimedId *claimed = palloc0(sizeof(ClaimedId) * Max(count, 1));

	for (uint64 i = 0; i < count; i++)
	{
		bool  isnull;
		Datum id = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		claimed[i].id = *DatumGetUUIDP(id);
	}
	qsort(claimed, count, sizeof(ClaimedId), compare_ids);
	return claimed;
}

/* claim_many(consumer text, event_ids uuid[]) returns boolean[], in the order of event_ids */
Datum
outbox_claim_many(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	ArrayType		 *input;
	Datum			 *ids;
	Datum			 *first;
	int				  count;
	uint64			  claimed_count;
	ClaimedId		 *claimed;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		refuse_null();
	check_consumer(PG_GETARG_TEXT_PP(0));
	input = PG_GETARG_ARRAYTYPE_P(1);
	if (array_contains_nulls(input))
		refuse_null();
	deconstruct_array(input, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &ids, NULL, &count);
	first = palloc(sizeof(Datum) * Max(count, 1));

	SPI_connect();
	execute_claim(&plan, CLAIM_MANY_QUERY, UUIDARRAYOID, PG_GETARG_DATUM(0), PointerGetDatum(input),
				  SPI_OK_INSERT_RETURNING);
	claimed_count = SPI_processed;
	claimed = collect_claimed(claimed_count);
	for (int i = 0; i < count; i++)
	{
		ClaimedId *found =
			bsearch(DatumGetUUIDP(ids[i]), claimed, claimed_count, sizeof(ClaimedId), compare_ids);

		first[i] = BoolGetDatum(found != NULL && !found->reported);
		if (found != NULL)
			found->reported = true;
	}
	SPI_finish();
	PG_RETURN_ARRAYTYPE_P(construct_array(first, count, BOOLOID, 1, true, TYPALIGN_CHAR));
}
