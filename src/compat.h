/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Every difference between the PostgreSQL versions we build on, 15 to 18.
 *
 * Code elsewhere is written against the newest spelling; older versions get
 * it from here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_COMPAT_H
#define TRANSCRIBE_COMPAT_H

#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_foreign_server.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"
#if PG_VERSION_NUM >= 170000
#include "utils/resowner.h"
#endif
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

/* 18: as C11 has it, before the function */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 16: one function for all kinds of objects */
#if PG_VERSION_NUM < 160000
#define transcribe_server_usage(server, role) \
	pg_foreign_server_aclcheck(server, role, ACL_USAGE)
#define transcribe_owns_table(table, role) pg_class_ownercheck(table, role)
#define transcribe_owns_server(server, role) \
	pg_foreign_server_ownercheck(server, role)
#define transcribe_may_execute(function, role) \
	(pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK)
#else
#define transcribe_server_usage(server, role) \
	object_aclcheck(ForeignServerRelationId, server, role, ACL_USAGE)
#define transcribe_owns_table(table, role) \
	object_ownercheck(RelationRelationId, table, role)
#define transcribe_owns_server(server, role) \
	object_ownercheck(ForeignServerRelationId, server, role)
#define transcribe_may_execute(function, role) \
	(object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK)
#endif

/* 16: errors may be collected */
#if PG_VERSION_NUM < 160000
#define transcribe_string_to_names(name) stringToQualifiedNameList(name)
#else
#define transcribe_string_to_names(name) stringToQualifiedNameList(name, NULL)
#endif

/* 17: a role that may not log in can be that of a background worker */
#if PG_VERSION_NUM < 170000
#define BGWORKER_BYPASS_ROLELOGINCHECK 0
#endif

/* 16: an index may keep summaries only; 18: the row may be an update's */
#if PG_VERSION_NUM < 160000
#define transcribe_insert_index_tuples(target, slot, estate, conflict) \
	ExecInsertIndexTuples(target, slot, estate, false, true, conflict, NIL)
#else
#define transcribe_insert_index_tuples(target, slot, estate, conflict) \
	ExecInsertIndexTuples(target, slot, estate, false, true, conflict, NIL, false)
#endif
#if PG_VERSION_NUM < 180000
#define transcribe_check_index_constraints(target, slot, estate, other, arbiters) \
	ExecCheckIndexConstraints(target, slot, estate, other, arbiters)
#else
#define transcribe_check_index_constraints(target, slot, estate, other, arbiters) \
	ExecCheckIndexConstraints(target, slot, estate, other, NULL, arbiters)
#endif

/* 17: a wait-event set belongs to a resource owner; NULL: to the session */
#if PG_VERSION_NUM < 170000
#define transcribe_create_wait_event_set(nevents) \
	CreateWaitEventSet(TopMemoryContext, nevents)
#else
#define transcribe_create_wait_event_set(nevents) \
	CreateWaitEventSet(NULL, nevents)
#endif

/* 16: entries of backends are found by a number that is called so */
#if PG_VERSION_NUM < 160000
#define transcribe_backend_entry(n) pgstat_fetch_stat_local_beentry(n)
#else
#define transcribe_backend_entry(n) pgstat_get_local_beentry_by_index(n)
#endif

/* 17: extensions name their wait events; before, all are "Extension" */
#if PG_VERSION_NUM < 170000
#define transcribe_wait_event(name) PG_WAIT_EXTENSION
#else
#define transcribe_wait_event(name) WaitEventExtensionNew(name)
#endif

#endif							/* FRONTEND */

/* For pure code, which unit tests build as a frontend, too: */

/* 17: the JSON lexer is given, or makes, its state */
#if PG_VERSION_NUM < 170000
#define transcribe_json_lexer(json, len, encoding) \
	makeJsonLexContextCstringLen(json, len, encoding, true)
#else
#define transcribe_json_lexer(json, len, encoding) \
	makeJsonLexContextCstringLen(NULL, json, len, encoding, true)
#endif

/* 16: actions of the JSON parser return a verdict */
#if PG_VERSION_NUM < 160000
#define TranscribeJsonAction void
#define TRANSCRIBE_JSON_OK
#else
#define TranscribeJsonAction JsonParseErrorType
#define TRANSCRIBE_JSON_OK JSON_SUCCESS
#endif

#endif							/* TRANSCRIBE_COMPAT_H */
