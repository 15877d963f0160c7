/*-------------------------------------------------------------------------
 *
 * recording.c
 *	  What a job is enqueued for: a file, bytes, or a large object.
 *
 * Runs in the caller's backend.  A file is read where it is, and so is a large
 * object, when the job runs.  Bytes are somebody's variable, and gone then: so
 * they are stored with the job, in pieces, of which the worker reads one at a
 * time.
 *
 *-------------------------------------------------------------------------
 */
#include "session/recording.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "session/path.h"
#include "shared/recording.h"
#include "transcribe.h"

static Statement insert_piece = {
	.sql = "INSERT INTO %1$s.transcribe_recordings (job_id, piece_no, owner, data) "
	"VALUES ($1, $2, $3, $4)",
	.nargs = 4, .argtypes = {INT8OID, INT4OID, TEXTOID, BYTEAOID}
};

/* What values of a type are, domains included. */
RecordingKind
recording_kind(Oid type)
{
	Oid			base = getBaseType(type);
	char		category;
	bool		preferred;

	if (base == BYTEAOID)
		return RECORDING_BYTES;
	if (base == OIDOID)
		return RECORDING_LARGE_OBJECT;

	/* What is like text, but neither padded (char) nor of a fixed length (name). */
	get_type_category_preferred(base, &category, &preferred);
	return category == TYPCATEGORY_STRING && get_typlen(base) == -1 &&
		base != BPCHAROID ? RECORDING_PATH : RECORDING_NONE;
}

/* "bytea:" and the hash of the bytes. */
static char *
bytes_name(const bytea *bytes)
{
	uint8		hash[PG_SHA256_DIGEST_LENGTH];
	char		hex[2 * PG_SHA256_DIGEST_LENGTH];
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	if (context == NULL || pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) VARDATA_ANY(bytes),
							 VARSIZE_ANY_EXHDR(bytes)) < 0 ||
		pg_cryptohash_final(context, hash, sizeof(hash)) < 0)
		elog(ERROR, "could not compute a hash of the recording");
	pg_cryptohash_free(context);
	(void) hex_encode((const char *) hash, sizeof(hash), hex);
	return psprintf(RECORDING_BYTES_PREFIX "%.*s", (int) sizeof(hex), hex);
}

/* Make a recording of a value that is not null. */
void
recording_init(Recording *recording, RecordingKind kind, Datum value)
{
	memset(recording, 0, sizeof(*recording));
	recording->kind = kind;
	switch (kind)
	{
		case RECORDING_NONE:
			break;
		case RECORDING_PATH:
			recording->path = TextDatumGetCString(value);
			break;
		case RECORDING_BYTES:
			recording->bytes = DatumGetByteaPP(value);
			recording->path = bytes_name(recording->bytes);
			break;
		case RECORDING_LARGE_OBJECT:
			recording->large_object = DatumGetObjectId(value);
			recording->path = psprintf(RECORDING_LARGE_OBJECT_PREFIX "%u",
									   recording->large_object);
			break;
	}
}

static void
report_empty(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("recording is empty")));
}

static void
report_too_large(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("recording is larger than transcribe.max_file_size, %d MB",
					transcribe_max_file_size)));
}

/*
 * Whether the large object, which the current user must be allowed to read, has
 * a byte there.  It may have been made by the same statement.
 */
static bool
large_object_reaches(Oid large_object, int64 offset)
{
	Datum		byte;

	CommandCounterIncrement();
	PushCopiedSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
	byte = DirectFunctionCall3(be_lo_get_fragment, ObjectIdGetDatum(large_object),
							   Int64GetDatum(offset), Int32GetDatum(1));
	PopActiveSnapshot();
	return VARSIZE_ANY_EXHDR(DatumGetByteaPP(byte)) > 0;
}

/*
 * Raise an error unless the role, which is the current user, may have this
 * recording transcribed.  Of files and large objects that is a courtesy: it is
 * decided when they are read.
 */
void
recording_check(const Recording *recording, Oid roleid)
{
	int64		limit = transcribe_max_file_size * INT64CONST(1024) * 1024;

	if (recording->kind == RECORDING_PATH)
		path_check(recording->path, roleid);
	else if (recording->kind == RECORDING_BYTES)
	{
		if (VARSIZE_ANY_EXHDR(recording->bytes) == 0)
			report_empty();
		if (limit > 0 && (int64) VARSIZE_ANY_EXHDR(recording->bytes) > limit)
			report_too_large();
	}
	else
	{
		if (!large_object_reaches(recording->large_object, 0))
			report_empty();
		if (limit > 0 && large_object_reaches(recording->large_object, limit))
			report_too_large();
	}
}

/* As the tables' owner: store the bytes of a job that was inserted. */
void
recording_store(TablesScope *scope, const Recording *recording, int64 job_id,
				const char *owner)
{
	const char *data = VARDATA_ANY(recording->bytes);
	Size		left = VARSIZE_ANY_EXHDR(recording->bytes);
	bytea	   *piece = palloc(VARHDRSZ + RECORDING_PIECE_SIZE);
	Datum		values[4];

	values[0] = Int64GetDatum(job_id);
	values[2] = CStringGetTextDatum(owner);
	values[3] = PointerGetDatum(piece);
	for (int piece_no = 0; left > 0; piece_no++)
	{
		Size		size = Min(left, RECORDING_PIECE_SIZE);

		values[1] = Int32GetDatum(piece_no);
		SET_VARSIZE(piece, VARHDRSZ + size);
		memcpy(VARDATA(piece), data, size);
		tables_execute(scope, &insert_piece, values, NULL);
		data += size;
		left -= size;
	}
}
