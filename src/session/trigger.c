/*-------------------------------------------------------------------------
 *
 * trigger.c
 *	  transcribe_enqueue_trigger: rows of a table go into the queue by themselves.
 *
 * Runs in the backend that changes the row, as the role that does.  The trigger
 * names two columns; what they hold is enqueued as transcribe_enqueue would.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "session/columns.h"
#include "session/enqueue.h"

PG_FUNCTION_INFO_V1(transcribe_enqueue_trigger);

/* What follows the two columns in the trigger's definition. */
typedef struct TriggerTerms
{
	char	   *server;
	char	   *prefix;
	int32		priority;
	Jsonb	   *options;
} TriggerTerms;

#define TRIGGER_HINT \
	errhint("It is made by CREATE TRIGGER ... AFTER INSERT OR UPDATE OF path_column ON ... FOR EACH ROW EXECUTE FUNCTION transcribe_enqueue_trigger('session_column', 'path_column', 'server').")

/* Raise an error unless we are called for a row that is there now. */
static void
check_event(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						"transcribe_enqueue_trigger"),
				 TRIGGER_HINT));
	if (!TRIGGER_FIRED_AFTER(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		!(TRIGGER_FIRED_BY_INSERT(data->tg_event) ||
		  TRIGGER_FIRED_BY_UPDATE(data->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must be fired AFTER INSERT or UPDATE, for each row",
						data->tg_trigger->tgname),
				 TRIGGER_HINT));
	if (data->tg_trigger->tgnargs < 2)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must name a session column and a path column",
						data->tg_trigger->tgname),
				 TRIGGER_HINT));
}

/* If an argument is "name=value" of that name, its value; else NULL. */
static char *
value_of(char *argument, const char *name)
{
	size_t		len = strlen(name);

	return strncmp(argument, name, len) == 0 && argument[len] == '=' ?
		argument + len + 1 : NULL;
}

/* Read what follows the columns: the third may be the server without its name. */
static TriggerTerms
read_terms(Trigger *trigger)
{
	TriggerTerms terms = {.prefix = ""};

	for (int i = 2; i < trigger->tgnargs; i++)
	{
		char	   *argument = trigger->tgargs[i];
		char	   *value;

		if ((value = value_of(argument, "server")) != NULL)
			terms.server = value;
		else if ((value = value_of(argument, "prefix")) != NULL)
			terms.prefix = value;
		else if ((value = value_of(argument, "priority")) != NULL)
			terms.priority = DatumGetInt32(DirectFunctionCall1(int4in,
															   CStringGetDatum(value)));
		else if ((value = value_of(argument, "options")) != NULL)
			terms.options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
															   CStringGetDatum(value)));
		else if (i == 2)
			terms.server = argument;
		else
			ereport(ERROR,
					(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
					 errmsg("trigger \"%s\" has an invalid argument \"%s\"",
							trigger->tgname, argument),
					 errhint("Valid arguments behind the columns are: server=..., priority=..., options=..., prefix=...")));
	}
	return terms;
}

/* Whether an update has left the column as it was. */
static bool
is_unchanged(TriggerData *data, AttrNumber column)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	Form_pg_attribute attribute = TupleDescAttr(desc, column - 1);
	Datum		before;
	Datum		after;
	bool		before_isnull;
	bool		after_isnull;

	if (!TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		return false;
	before = SPI_getbinval(data->tg_trigtuple, desc, column, &before_isnull);
	after = SPI_getbinval(data->tg_newtuple, desc, column, &after_isnull);
	if (before_isnull || after_isnull)
		return before_isnull == after_isnull;
	return datum_image_eq(before, after, attribute->attbyval, attribute->attlen);
}

/* Trigger: a row is new, or its recording is. */
Datum
transcribe_enqueue_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	SourceColumns columns;
	TriggerTerms given;
	EnqueueTerms terms;
	Recording	recording;
	HeapTuple	row;
	text	   *session_id;
	Datum		value;
	bool		isnull;

	check_event(fcinfo);
	given = read_terms(data->tg_trigger);
	columns_find(&columns, data->tg_relation, data->tg_trigger->tgargs[0],
				 data->tg_trigger->tgargs[1]);
	row = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple :
		data->tg_trigtuple;
	if (is_unchanged(data, columns.path))
		return PointerGetDatum(NULL);
	value = SPI_getbinval(row, RelationGetDescr(data->tg_relation),
						  columns.session, &isnull);
	if (isnull)
		return PointerGetDatum(NULL);
	session_id = columns_session(&columns, given.prefix, value);
	value = SPI_getbinval(row, RelationGetDescr(data->tg_relation),
						  columns.path, &isnull);
	if (isnull)
		return PointerGetDatum(NULL);

	enqueue_check_session(session_id);
	enqueue_terms(&terms, given.server, given.priority,
				  GetCurrentTransactionStartTimestamp(), given.options);
	recording_init(&recording, columns.kind, value);
	recording_check(&recording, terms.caller);
	(void) enqueue_insert(fcinfo, &terms, session_id, &recording);
	return PointerGetDatum(NULL);
}
