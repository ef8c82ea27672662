/* mysql_bulk.c: lists of a batch that go to a MariaDB server in one message. MySQL's servers cannot; they get one list at a time. */
#include "actors/database/mysql_impl.h"

#define LISTS_MAX 4096u
#define BYTES_MAX (256u << 10) /* far below any max_allowed_packet in use */
#define VALUE_MIN 16u          /* what a value counts at least: small ones are larger in the message than in the request */

bool rr__my_bulk_able(MYSQL *mysql) {
    unsigned long capabilities = 0; /* MariaDB's own ones, from the 33rd bit on */
    return mariadb_get_infov(mysql, MARIADB_CONNECTION_EXTENDED_SERVER_CAPABILITIES, &capabilities) == 0 &&
           capabilities & (unsigned long)(MARIADB_CLIENT_STMT_BULK_OPERATIONS >> 32);
}

/* A message has one type for each placeholder; NULL fits all of them. */
static bool is_alike(MYSQL_BIND *type, const MYSQL_BIND *bind) {
    if (bind->buffer_type == MYSQL_TYPE_NULL)
        return true;
    if (type->buffer_type == MYSQL_TYPE_NULL)
        *type = *bind;
    return type->buffer_type == bind->buffer_type && type->is_unsigned == bind->is_unsigned;
}

/* Reads the next list: its types must be those so far; the first one's are `types`. */
static bool fits(my_bulk_t *bulk, rr__db_job_t *ahead, MYSQL_BIND *types, bool first) {
    rr_datum_reader_t values;
    const char *why;
    int count = rr__db_next_list(ahead, &values);
    if (count < 0 || rr__db_arrange(ahead, values, (uint32_t)count, bulk->datums) != RR_OK)
        return false;
    for (uint32_t i = 0; i < ahead->placeholders; i++) {
        MYSQL_BIND bind;
        if (!rr__my_bind_in(&bind, &bulk->cells[i], &bulk->datums[i], &why))
            return false;
        if (first)
            types[i] = bind;
        else if (!is_alike(&types[i], &bind))
            return false;
    }
    return true;
}

/* libmariadb asks for each list's values when it writes the message; it has no ear for errors here. */
static my_bool next_list(void *context, MYSQL_BIND *binds, unsigned row) {
    my_bulk_t *bulk = context;
    rr_datum_reader_t values;
    const char *why;
    int count = rr__db_next_list(&bulk->job, &values);
    (void)row;
    bulk->failed |= count < 0 || rr__db_arrange(&bulk->job, values, (uint32_t)count, bulk->datums) != RR_OK;
    for (uint32_t i = 0; !bulk->failed && i < bulk->job.placeholders; i++) {
        bulk->failed |= !rr__my_bind_in(&binds[i], &bulk->cells[i], &bulk->datums[i], &why);
        binds[i].length = &binds[i].buffer_length;
    }
    return bulk->failed;
}

static bool set(MYSQL_STMT *statement, unsigned lists, my_bulk_t *bulk) {
    return mysql_stmt_attr_set(statement, STMT_ATTR_ARRAY_SIZE, &lists) == 0 &&
           mysql_stmt_attr_set(statement, STMT_ATTR_CB_USER_DATA, bulk) == 0 &&
           mysql_stmt_attr_set(statement, STMT_ATTR_CB_PARAM, lists ? (const void *)(uintptr_t)next_list : NULL) == 0;
}

unsigned rr__my_bulk_begin(my_bulk_t *bulk, MYSQL_STMT *statement, const rr__db_job_t *job, MYSQL_BIND *types, my_cell_t *cells,
                           rr_datum_t *datums) {
    rr__db_job_t ahead = *job;
    size_t bytes = 0;
    unsigned lists = 0;
    *bulk = (my_bulk_t){.job = *job, .behind = job->parameters, .cells = cells, .datums = datums};
    while (lists < job->list_count && lists < LISTS_MAX && fits(bulk, &ahead, types, lists == 0)) {
        bytes += (size_t)(ahead.parameters.at - bulk->behind.at) + (size_t)VALUE_MIN * job->placeholders;
        if (bytes > BYTES_MAX)
            break;
        bulk->behind = ahead.parameters;
        lists++;
    }
    if (lists < 2 || mysql_stmt_bind_param(statement, types) != 0)
        return 0;
    if (!set(statement, lists, bulk)) {
        rr__my_bulk_end(statement);
        return 0;
    }
    return lists;
}

void rr__my_bulk_end(MYSQL_STMT *statement) { (void)set(statement, 0, NULL); /* it knows these: it cannot fail */ }
