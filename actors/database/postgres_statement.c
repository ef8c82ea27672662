/* postgres_statement.c: which statements a connection has seen. Types are part of a statement: `$1` may be an integer in one
 * call and a text in the next, and the server plans them apart. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/database/postgres_impl.h"

static uint64_t key_of(const rr__db_job_t *job, const rr__pg_parameters_t *parameters) {
    uint64_t key = job->text_hash;
    for (uint32_t i = 0; i < parameters->count; i++)
        key = (key ^ parameters->types[i]) * 0x9e3779b97f4a7c15ull;
    return key ? key : 1;
}

static bool same(const rr__pg_statement_t *statement, const rr__db_job_t *job, const rr__pg_parameters_t *parameters) {
    return statement->size == job->text_size && statement->count == parameters->count &&
           memcmp(statement->text, job->text, job->text_size) == 0 &&
           (!parameters->count || memcmp(statement->types, parameters->types, parameters->count * sizeof(Oid)) == 0);
}

static void unlink_statement(rr__pg_statements_t *statements, rr__pg_statement_t *statement) {
    *(statement->newer ? &statement->newer->older : &statements->newest) = statement->older;
    *(statement->older ? &statement->older->newer : &statements->oldest) = statement->newer;
}

static void link_newest(rr__pg_statements_t *statements, rr__pg_statement_t *statement) {
    statement->newer = NULL;
    statement->older = statements->newest;
    *(statements->newest ? &statements->newest->newer : &statements->oldest) = statement;
    statements->newest = statement;
}

static rr__pg_statement_t *make(rr__pg_statements_t *statements, uint64_t key, const rr__db_job_t *job,
                                const rr__pg_parameters_t *parameters) {
    rr__pg_statement_t *statement = calloc(1, sizeof *statement + parameters->count * sizeof(Oid));
    char *text = malloc(job->text_size + 1);
    if (!statement || !text || !rr_map_put(&statements->map, key, statement)) {
        free(statement);
        free(text);
        return NULL;
    }
    memcpy(text, job->text, job->text_size);
    text[job->text_size] = '\0';
    statement->text = text;
    statement->size = job->text_size;
    statement->key = key;
    statement->count = parameters->count;
    if (parameters->count)
        memcpy(statement->types, parameters->types, parameters->count * sizeof(Oid));
    snprintf(statement->name, sizeof statement->name, "rr%u", ++statements->serial);
    link_newest(statements, statement);
    return statement;
}

rr__pg_statement_t *rr__pg_statement_use(rr__pg_statements_t *statements, const rr__db_job_t *job,
                                         const rr__pg_parameters_t *parameters, bool *seen) {
    uint64_t key = key_of(job, parameters);
    rr__pg_statement_t *statement = rr_map_get(&statements->map, key);
    *seen = statement != NULL;
    if (!statement)
        return make(statements, key, job, parameters);
    if (!same(statement, job, parameters))
        return NULL;
    unlink_statement(statements, statement);
    link_newest(statements, statement);
    return statement;
}

void rr__pg_statement_drop(rr__pg_statements_t *statements, rr__pg_statement_t *statement) {
    rr_map_take(&statements->map, statement->key);
    unlink_statement(statements, statement);
    free(statement->text);
    free(statement);
}

void rr__pg_statements_free(rr__pg_statements_t *statements) {
    while (statements->newest)
        rr__pg_statement_drop(statements, statements->newest);
    rr_map_free(&statements->map);
}
