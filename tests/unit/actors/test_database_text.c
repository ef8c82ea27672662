/* Addresses of databases, their parts and how they are shown; statements' placeholders in each driver's style. */
#include <string.h>

#include "actors/database/database_impl.h"
#include "tests/unit/check_main.h"

/* ---- Addresses ---- */

static rr__db_url_t parse(const char *text) {
    rr__db_url_t url;
    char why[256] = "";
    int rc = rr__db_url_parse(text, &url, why, sizeof why);
    ck_assert_msg(rc == RR_OK, "%s: %s", text, why);
    return url;
}

static void is_parts(const char *text, const char *user, const char *password, const char *host, unsigned port, const char *database) {
    rr__db_url_t url = parse(text);
    ck_assert_str_eq(url.user, user);
    ck_assert_str_eq(url.password, password);
    ck_assert_str_eq(url.host, host);
    ck_assert_uint_eq(url.port, port);
    ck_assert_str_eq(url.database, database);
    rr__db_url_free(&url);
}

START_TEST(parts_of_addresses) {
    is_parts("sqlite://./x.db", "", "", "", 0, "./x.db");
    is_parts("sqlite:///var/lib/x%20y.db", "", "", "", 0, "/var/lib/x y.db");
    is_parts("SQLite://:memory:", "", "", "", 0, ":memory:");
    is_parts("mysql://u:p@h:3307/d", "u", "p", "h", 3307, "d");
    is_parts("mariadb://u:p%40%2F%3a@h/d", "u", "p@/:", "h", 0, "d");
    is_parts("mysql://u:p@x@[::1]:3306/d", "u", "p@x", "::1", 3306, "d");
    is_parts("mysql://h:3306/u/p@%41/d", "u", "p@%41", "h", 3306, "d"); /* the seed's: as it stands */
    is_parts("mysql://h", "", "", "h", 0, "");
}
END_TEST

START_TEST(options_of_addresses) {
    rr__db_url_t url = parse("mysql://u@h/d?charset=utf8mb4");
    ck_assert_str_eq(rr__db_url_option(&url, "charset"), "utf8mb4");
    ck_assert_ptr_null(rr__db_url_option(&url, "other"));
    rr__db_url_free(&url);
}
END_TEST

static void is_wrong(const char *text, int code) {
    const char *driver;
    char why[256] = "";
    ck_assert_int_eq(rr_database_check_url(text, &driver, why, sizeof why), code);
    ck_assert_uint_gt(strlen(why), 0);
    ck_assert_ptr_null(strstr(why, "secret"));
}

START_TEST(wrong_addresses) {
    is_wrong("", RR_EINVAL);
    is_wrong("game.db", RR_EINVAL);
    is_wrong("://x", RR_EINVAL);
    is_wrong("oracle://u:secret@h/d", RR_EUNSUPPORTED);
    is_wrong("rediss://:secret@h/0", RR_EINVAL);
    is_wrong("sqlite://", RR_EINVAL);
    is_wrong("sqlite://x.db?mode=ro", RR_EINVAL);
    is_wrong("mysql://me:secret@host/x?tls=yes", RR_EINVAL);
    is_wrong("mysql://me:secret@host/x?tls=require&ca=/x.pem", RR_EINVAL); /* nobody would look at it */
    is_wrong("mysql://me:secret@host/x?ca=/x.pem", RR_EINVAL);
    is_wrong("mysql://u:secret@h:0/d", RR_EINVAL);
    is_wrong("mysql://u:secret@h:65536/d", RR_EINVAL);
    is_wrong("mysql://u:secret/x@h/d", RR_EINVAL);
    is_wrong("mysql://u:secret@[::1/d", RR_EINVAL);
    is_wrong("mysql://u:secret@h/d/e", RR_EINVAL);
    is_wrong("mysql://u:secret@h/d?colour=red", RR_EINVAL);
    is_wrong("mysql://u:12?secret@h/d", RR_EINVAL);
    is_wrong("postgresql://u:12?secret=1@h/d", RR_EINVAL);
    is_wrong("redis://u:12?secret@h/0", RR_EINVAL);
}
END_TEST

static void is_shown(const char *url, const char *expected) {
    char out[200];
    ck_assert_str_eq(rr_database_redact(url, out, sizeof out), expected);
    for (size_t size = 0; size < sizeof out; size++) { /* whatever the room: no more than that, and nothing else */
        char *exact = malloc(size ? size : 1);
        rr_database_redact(url, exact, size);
        ck_assert(size == 0 || strncmp(exact, expected, size - 1) == 0);
        free(exact);
    }
}

START_TEST(shown_without_secrets) {
    is_shown("sqlite://./x.db", "sqlite://./x.db");
    is_shown("mysql://u:secret@h:3306/d", "mysql://u:***@h:3306/d");
    is_shown("mysql://u@h/d", "mysql://u@h/d");
    is_shown("mysql://u:sec@ret@h/d", "mysql://u:***@h/d");
    is_shown("mysql://u:sec/ret@h/d", "mysql://u:***@h/d");
    is_shown("mysql://u:sec?ret@h/d", "mysql://u:***@h/d");
    is_shown("mysql://h:3306/u/secret/d", "mysql://h:3306/u/***/d");
    is_shown("mysql://h:3306/u/sec/ret/d", "mysql://h:3306/u/***/d");
    is_shown("redis://:secret@h/0", "redis://:***@h/0");
    is_shown("redis://secret@h/0", "redis://***@h/0");
    is_shown("postgresql://u:secret@h/d?sslmode=require&password=secret", "postgresql://u:***@h/d?sslmode=require&password=***");
    is_shown("secret", "***");
}
END_TEST

/* ---- Placeholders ---- */

static const rr__db_driver_t question = {.name = "q", .style = RR__DB_QUESTION},
                             backslash = {.name = "b", .style = RR__DB_QUESTION, .backslashes = true},
                             dollar = {.name = "d", .style = RR__DB_DOLLAR};

static void becomes(const rr__db_driver_t *driver, bool named, const char *source, const char *expected, uint32_t placeholders) {
    rr__sql_t *sql;
    char why[200] = "";
    int rc = rr__sql_translate(driver, source, strlen(source), named, &sql, why, sizeof why);
    ck_assert_msg(rc == RR_OK, "%s: %s", source, why);
    ck_assert_str_eq(sql->text, expected);
    ck_assert_uint_eq(sql->text_size, strlen(expected));
    ck_assert_msg(sql->placeholders == placeholders, "%s: %u", source, sql->placeholders);
    rr__sql_free(sql);
}

START_TEST(by_position) {
    becomes(&question, false, "SELECT ?, ?", "SELECT ?, ?", 2);
    becomes(&dollar, false, "SELECT ?, ?", "SELECT $1, $2", 2);
    becomes(&dollar, false, "SELECT j ?? 'k', ?", "SELECT j ? 'k', $1", 1);
    becomes(&dollar, false, "SELECT $2, $1, '$9'", "SELECT $2, $1, '$9'", 2); /* its own */
    becomes(&dollar, false, "SELECT a$1, ?", "SELECT a$1, $1", 1);
    becomes(&question, false, "SELECT :a", "SELECT :a", 0);
    becomes(&question, false, "", "", 0);
}
END_TEST

START_TEST(by_name) {
    becomes(&question, true, "SELECT :a, :b_2, :a", "SELECT ?, ?, ?", 3);
    becomes(&dollar, true, "SELECT :a, :b_2, :a", "SELECT $1, $2, $1", 2);
    becomes(&dollar, true, "SELECT :a::int, x::text", "SELECT $1::int, x::text", 1);
    becomes(&dollar, true, "SELECT j ? 'k' AND :a", "SELECT j ? 'k' AND $1", 1);
    becomes(&backslash, true, "SET @a := 1, b = :b", "SET @a := 1, b = ?", 1);
}
END_TEST

START_TEST(what_is_left_alone) {
    becomes(&dollar, false, "SELECT '?', '''?', \"?\", ?", "SELECT '?', '''?', \"?\", $1", 1);
    becomes(&dollar, false, "SELECT '\\', ?", "SELECT '\\', $1", 1);                        /* no backslashes there */
    becomes(&dollar, false, "SELECT E'\\'?', ?", "SELECT E'\\'?', $1", 1);                  /* but here */
    becomes(&dollar, false, "SELECT type'\\', ?", "SELECT type'\\', $1", 1);                /* nor here */
    becomes(&backslash, false, "SELECT '\\'?', \"\\\"?\", `?`, ?", "SELECT '\\'?', \"\\\"?\", `?`, ?", 1);
    becomes(&dollar, false, "SELECT ? -- ?\n, ?", "SELECT $1 -- ?\n, $2", 2);
    becomes(&backslash, false, "SELECT ? # ?\n, ?", "SELECT ? # ?\n, ?", 2);
    becomes(&dollar, false, "SELECT /* ? /* ? */ ? */ ?", "SELECT /* ? /* ? */ ? */ $1", 1); /* they nest */
    becomes(&question, false, "SELECT /* ? /* ? */ ?", "SELECT /* ? /* ? */ ?", 1);          /* they do not */
    becomes(&dollar, false, "SELECT $$?$$, $a$ ? $$ ? $a$, ?", "SELECT $$?$$, $a$ ? $$ ? $a$, $1", 1);
    becomes(&backslash, false, "SELECT 5--?, 5-- ?\n, 5--\t?\n, 5--", "SELECT 5--?, 5-- ?\n, 5--\t?\n, 5--", 1); /* there white space has to follow */
    becomes(&backslash, true, "SELECT 5--:a --", "SELECT 5--? --", 1);
    becomes(&backslash, true, "SELECT --\x7f:a", "SELECT --\x7f:a", 0);
    becomes(&question, false, "SELECT 5--?\n", "SELECT 5--?\n", 0);
    becomes(&dollar, false, "SELECT 5--?\n, ?", "SELECT 5--?\n, $1", 1);
    becomes(&dollar, false, "SELECT ? -- ?\r, ?", "SELECT $1 -- ?\r, $2", 2); /* a line's end there only */
    becomes(&question, false, "SELECT ? -- ?\r, ?", "SELECT ? -- ?\r, ?", 1);
    becomes(&question, false, "SELECT [it's ?], [a\"`], '[', ?", "SELECT [it's ?], [a\"`], '[', ?", 1); /* SQLite's names */
    becomes(&question, true, "SELECT [:b], :a", "SELECT [:b], ?", 1);
    becomes(&dollar, false, "SELECT ARRAY[?, ?], a['?']", "SELECT ARRAY[$1, $2], a['?']", 2);
    becomes(&question, false, "SELECT [?", "SELECT [?", 0);
    becomes(&dollar, false, "SELECT '?", "SELECT '?", 0); /* never closed: the server's affair */
    becomes(&dollar, false, "SELECT /* ?", "SELECT /* ?", 0);
    becomes(&dollar, false, "SELECT $a$ ?", "SELECT $a$ ?", 0);
}
END_TEST

static bool reads(const char *source) {
    rr__sql_t *sql;
    char why[200];
    ck_assert_int_eq(rr__sql_translate(&dollar, source, strlen(source), false, &sql, why, sizeof why), RR_OK);
    bool is = sql->reads;
    rr__sql_free(sql);
    return is;
}

START_TEST(what_only_reads) {
    static const char *const good[] = {"SELECT 1", " \n/* update */ select a FROM t WHERE b = ?", "(SELECT 1) UNION SELECT ?",
                                       "SELECT 'for', \"into\" FROM t -- for update", "SELECT format(?), fortune, an_into FROM t"};
    static const char *const bad[] = {"", "-- select", "UPDATE t SET a = 1", "INSERT INTO t SELECT 1", "SELECT 1 INTO t",
                                      "SELECT a FROM t for share", "SELECT a FROM t\nFOR/**/UPDATE", "WITH x AS (SELECT 1) SELECT 1",
                                      "selects", "COPY t TO STDOUT", "BEGIN", "select_it"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(reads(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!reads(bad[i]), "%s", bad[i]);
}
END_TEST

static void has_effect(const rr__db_driver_t *driver, rr__sql_effect_t want, const char *const *sources) {
    for (; *sources; sources++) {
        rr__sql_t *sql;
        char why[200];
        ck_assert_int_eq(rr__sql_translate(driver, *sources, strlen(*sources), false, &sql, why, sizeof why), RR_OK);
        ck_assert_msg(sql->effect == want, "%s: %d, not %d", *sources, sql->effect, want);
        rr__sql_free(sql);
    }
}
#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

START_TEST(what_begins_or_ends_a_transaction) {
    const rr__db_driver_t *const drivers[] = {&question, &backslash, &dollar};
    for (unsigned i = 0; i < 3; i++) {
        has_effect(drivers[i], RR__SQL_TRANSACTS,
                   TEXTS("BEGIN", "begin immediate", " -- so\nStart Transaction", "START /* a */ TRANSACTION READ ONLY", "COMMIT;", "END",
                         "END TRANSACTION", "ABORT", "ROLLBACK", "ROLLBACK WORK;", "PREPARE TRANSACTION 'a'", "XA START 'a'", "xa end 'a'",
                         "XA PREPARE 'a'"));
        has_effect(drivers[i], RR__SQL_NONE,
                   TEXTS("", "SELECT 'BEGIN'", "BEGIN NOT ATOMIC SELECT 1; END", "START REPLICA", "COMMIT PREPARED 'a'", "ROLLBACK PREPARED 'a'",
                         "beginning", "CREATE PROCEDURE a() BEGIN SELECT 1; END", "-- BEGIN", "XA RECOVER", "XA COMMIT 'a'"));
        has_effect(drivers[i], RR__SQL_WITHIN,
                   TEXTS("SAVEPOINT a", "RELEASE a", "release savepoint a", "ROLLBACK TO a", "ROLLBACK TRANSACTION TO SAVEPOINT a"));
    }
    has_effect(&backslash, RR__SQL_TRANSACTS,
               TEXTS("SET autocommit = 0", "SET @@autocommit=1", "set @@session.autocommit = 0", "SET SESSION autocommit = 0",
                     "SET sql_mode = '', autocommit = 0", "SET @a = 1, autocommit = 0", "SET GLOBAL a = 1, SESSION autocommit = 0",
                     "SET GLOBAL a = 1, @@autocommit = 0", "/*!50000 SET autocommit = 0 */", "/*M!100100 COMMIT */",
                     "SET STATEMENT max_statement_time = 1 FOR SET autocommit = 0", "SET STATEMENT a = 1, b = 2 FOR COMMIT", "SET TRANSACTION READ ONLY", "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"));
}
END_TEST

START_TEST(what_stays_on_a_connection) {
    has_effect(&backslash, RR__SQL_KEEPS,
               TEXTS("SET @a = 1, sql_mode = ''", "SET @a = (SELECT max(b), 1 FROM c), @@b = 2", "SET @'a' = 1, b = 2", "SET GLOBAL a = 1, @@b = 2",
                     "SET GLOBAL a = 1, LOCAL b = 2, c = 3", "SET GLOBAL a = 1, NAMES utf8", "SET @@global.a = 1, b = 2", "SET PASSWORD = 'a', b = 2",
                     "SET STATEMENT a = 1 FOR CREATE TEMPORARY TABLE b (c INT)", "SET RESOURCE GROUP a", "EXECUTE IMMEDIATE 'SELECT 1'",
                     "execute immediate @a", "/*! SET sql_mode = '' */", "/*!50000 USE other */", "SET NAMES utf8", "SET SESSION sql_mode = ''", "SET sql_mode = ''", "SET @@sql_mode = ''", "SET ROLE a", "USE other",
                     "CREATE TEMPORARY TABLE a (b INT)", "CREATE OR REPLACE TEMPORARY TABLE a (b INT)", "PREPARE a FROM 'SELECT 1'",
                     "HANDLER a OPEN"));
    has_effect(&backslash, RR__SQL_LOCKS, TEXTS("LOCK TABLES a WRITE", "lock table a read", "FLUSH TABLES WITH READ LOCK", "FLUSH TABLES a FOR EXPORT",
                                                  "LOCK INSTANCE FOR BACKUP", "BACKUP STAGE START", "BACKUP LOCK a"));
    has_effect(&backslash, RR__SQL_NONE,
               TEXTS("SET @a = 1", "SET @a = 1, @b := (SELECT c, @@sql_mode FROM d), @'e' = ',f = 1'", "SET /* a, b */ @a = 1", "SET GLOBAL a = 1, b = 2",
                     "SET @@global.a = 1, GLOBAL b = 2", "SET PERSIST a = 1", "SET STATEMENT a = 'for set', b = 2 FOR UPDATE c SET autocommit = 1",
                     "SET RESOURCE GROUP a FOR 7", "EXECUTE a", "BACKUP UNLOCK", "INSERT /*! IGNORE */ INTO a VALUES (1)", "SET GLOBAL sql_mode = ''", "SET GLOBAL autocommit = 1", "SET @@global.max_connections = 7",
                     "SET STATEMENT max_statement_time = 1 FOR SELECT 1", "SET PASSWORD = 'a'", "SET DEFAULT ROLE a", "CREATE TABLE temporary (b INT)",
                     "FLUSH TABLES", "UNLOCK TABLES", "UPDATE a SET autocommit = 1", "SELECT 1 -- SET NAMES"));
    has_effect(&dollar, RR__SQL_KEEPS,
               TEXTS("SET search_path = a", "SET SESSION search_path TO a", "SET TIME ZONE 'UTC'", "SET ROLE a", "SET autocommit = 0",
                     "CREATE TEMP TABLE a (b INT)", "CREATE LOCAL TEMPORARY TABLE a (b INT)", "CREATE OR REPLACE TEMP VIEW a AS SELECT 1",
                     "PREPARE a AS SELECT 1", "LISTEN a", "DISCARD ALL", "DEALLOCATE ALL", "LOAD 'a'", "DECLARE a CURSOR WITH HOLD FOR SELECT 1",
                     "declare \"a\" no scroll cursor with /* so */ hold for select 1", "SELECT 1 INTO TEMP a", "SELECT b INTO LOCAL TEMPORARY TABLE a FROM c",
                     "WITH a AS (SELECT 1) SELECT * INTO TEMP TABLE b FROM a", "EXPLAIN ANALYZE SELECT 1 INTO TEMP a", "SELECT 1 INTO pg_temp.a",
                     "CREATE TABLE pg_temp.a (b INT)", "CREATE TABLE PG_TEMP . a (b INT)", "CREATE FUNCTION pg_temp.a() RETURNS INT AS 'SELECT 1' LANGUAGE sql",
                     "CREATE TEMP TABLE a (drop_ INT) ON COMMIT PRESERVE ROWS"));
    has_effect(&dollar, RR__SQL_WITHIN,
               TEXTS("SET LOCAL search_path = a", "SET TRANSACTION READ ONLY", "SET CONSTRAINTS ALL DEFERRED",
                     "CREATE TEMP TABLE a ON COMMIT DROP AS SELECT 1", "CREATE TABLE pg_temp.a (b INT) ON COMMIT DROP"));
    has_effect(&dollar, RR__SQL_NONE,
               TEXTS("LOCK TABLE a IN SHARE MODE", "RESET ALL", "NOTIFY a", "CREATE TABLE a (temp INT)", "SELECT set_config('a', 'b', true)",
                     "DECLARE a CURSOR FOR SELECT 1", "DECLARE a CURSOR WITHOUT HOLD FOR SELECT 1 FROM hold", "INSERT INTO temp SELECT 1", "SELECT 1 INTO a",
                     "WITH a AS (INSERT INTO temp VALUES (1) RETURNING 1) SELECT 1", "INSERT INTO pg_temp.a VALUES (1)", "SELECT 'into temp'",
                     "CREATE FUNCTION a() RETURNS INT AS $$ SELECT 1 INTO TEMP b $$ LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp",
                     "EXECUTE IMMEDIATE 'SELECT 1'", "/*! SET a = 1 */"));
    has_effect(&question, RR__SQL_NONE, TEXTS("CREATE TEMP TABLE a (b)", "PRAGMA foreign_keys = ON", "ATTACH 'a.db' AS a", "SET a = 1"));
}
END_TEST

/* What IN (?) would be compared with is the list's JSON. */
START_TEST(a_list_in_a_list) {
    static const char *const bad[] = {"SELECT 1 WHERE a IN (?)", "SELECT ?, a in ( ?\n) FROM t", "DELETE FROM t WHERE a NOT IN(?)"},
                      *const good[] = {"SELECT 1 WHERE a IN (?, 2)", "SELECT min(?)", "SELECT (?)", "INSERT INTO t VALUES (?)", "IN (?)",
                                       "SELECT a IN (SELECT ?)", "SELECT 'IN (?)', ?"};
    char why[200];
    rr_datum_writer_t writer = {0};
    for (unsigned i = 0; i < 2; i++)
        rr_datum_put_text(&writer, RR_DATUM_JSON, "[1]", 3);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (unsigned style = 0; style < 2; style++) {
            rr__sql_t *sql;
            ck_assert_int_eq(rr__sql_translate(style ? &dollar : &question, bad[i], strlen(bad[i]), false, &sql, why, sizeof why), RR_OK);
            ck_assert_int_eq(rr__sql_fit(sql, rr_datum_reader(writer.data, writer.size), sql->placeholders, why, sizeof why), RR_EINVAL);
            ck_assert_ptr_nonnull(strstr(why, "IN (?)"));
            rr__sql_free(sql);
        }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        rr__sql_t *sql;
        ck_assert_int_eq(rr__sql_translate(&question, good[i], strlen(good[i]), false, &sql, why, sizeof why), RR_OK);
        ck_assert_int_eq(rr__sql_fit(sql, rr_datum_reader(writer.data, writer.size), sql->placeholders, why, sizeof why), RR_OK);
        rr__sql_free(sql);
    }
    rr_datum_drop(&writer);
}
END_TEST

START_TEST(wrong_statements) {
    rr__sql_t *sql;
    char why[200] = "";
    ck_assert_int_eq(rr__sql_translate(&question, "a\0b", 3, false, &sql, why, sizeof why), RR_EINVAL);
    ck_assert_int_eq(rr__sql_translate(&question, "\xff", 1, false, &sql, why, sizeof why), RR_EINVAL);
    char *many = malloc(65536 + 1);
    memset(many, '?', 65536);
    for (size_t i = 1; i < 65536; i += 2)
        many[i] = ',';
    ck_assert_int_eq(rr__sql_translate(&question, many, 65536, false, &sql, why, sizeof why), RR_OK);
    ck_assert_uint_eq(sql->placeholders, 32768);
    rr__sql_free(sql);
    free(many);
    ck_assert_int_eq(rr__sql_translate(&dollar, "SELECT $65536", 13, false, &sql, why, sizeof why), RR_EINVAL);
    ck_assert_int_eq(rr__sql_translate(&dollar, "SELECT $99999999999999999999", 28, false, &sql, why, sizeof why), RR_EINVAL);
}
END_TEST

START_TEST(parameters_of_statements) {
    rr__sql_t *sql;
    rr_datum_t out[3];
    rr_datum_writer_t writer = {0};
    char why[200] = "";
    ck_assert_int_eq(rr__sql_translate(&question, "SELECT :a, :b, :a", 17, true, &sql, why, sizeof why), RR_OK);
    rr_datum_put_text(&writer, RR_DATUM_TEXT, "b", 1);
    rr_datum_put_int(&writer, 2);
    rr_datum_put_text(&writer, RR_DATUM_TEXT, "a", 1);
    rr_datum_put_int(&writer, 1);
    rr_datum_reader_t values = rr_datum_reader(writer.data, writer.size);
    ck_assert_int_eq(rr__sql_fit(sql, values, 4, why, sizeof why), RR_OK);
    ck_assert_int_eq(rr__sql_fit(sql, values, 2, why, sizeof why), RR_EINVAL);
    ck_assert_str_eq(why, "the parameter :a was not given");
    ck_assert_uint_eq(strlen(sql->source), sql->source_size); /* what logs rely on */
    rr__db_job_t job = {.sql = sql, .placeholders = sql->placeholders};
    ck_assert_int_eq(rr__db_arrange(&job, values, 4, out), RR_OK);
    ck_assert_int_eq(out[0].number, 1);
    ck_assert_int_eq(out[1].number, 2);
    ck_assert_int_eq(out[2].number, 1);
    rr__sql_free(sql);
    rr_datum_drop(&writer);
}
END_TEST

/* What a statement says to one parameter, in a list or by the name `id`. */
static void says(const rr__db_driver_t *driver, bool named, const char *source, const char *expected) {
    rr__sql_t *sql;
    rr_datum_writer_t writer = {0};
    char why[200] = "fits";
    ck_assert_int_eq(rr__sql_translate(driver, source, strlen(source), named, &sql, why, sizeof why), RR_OK);
    if (named)
        rr_datum_put_text(&writer, RR_DATUM_TEXT, "id", 2);
    rr_datum_put_int(&writer, 1);
    int rc = rr__sql_fit(sql, rr_datum_reader(writer.data, writer.size), named ? 2 : 1, why, sizeof why);
    ck_assert_int_eq(rc == RR_OK, strcmp(expected, "fits") == 0);
    ck_assert_str_eq(why, expected);
    rr__sql_free(sql);
    rr_datum_drop(&writer);
}

/* Placeholders of other libraries, and of the other kind. */
START_TEST(parameters_that_do_not_fit) {
#define NONE_TAKEN "the statement takes 0 parameters, 1 were given"
#define NO_NAME "the parameters have names, and the statement has no :name"
    says(&question, false, "SELECT a FROM t WHERE id = %s", NONE_TAKEN ": a list's go where ? stands, not `%s`");
    says(&question, false, "SELECT '%s' FROM t WHERE id = $1", NONE_TAKEN ": a list's go where ? stands, not `$1`");
    says(&dollar, false, "SELECT a FROM t WHERE id = %s", NONE_TAKEN ": a list's go where ? stands, not `%s`");
    says(&dollar, false, "SELECT a::int FROM t WHERE id = :id", NONE_TAKEN ": `:id` takes a dict's, a list's go where ? stands");
    says(&dollar, false, "SELECT a FROM t WHERE id = $1", "fits");
    says(&question, false, "SELECT '%s', 7 % 2", NONE_TAKEN);
    says(&question, false, "SELECT ??", NONE_TAKEN);
    says(&question, false, "SELECT ?, ?", "the statement takes 2 parameters, 1 were given");
    says(&question, true, "SELECT a FROM t WHERE id = ?", NO_NAME ": a list goes with `?`");
    says(&dollar, true, "SELECT a FROM t WHERE id = ?", NO_NAME ": a list goes with `?`");
    says(&question, true, "SELECT a FROM t WHERE id = %(id)s", NO_NAME " but `%(`");
    says(&question, true, "SELECT a FROM t WHERE id = $1", NO_NAME " but `$1`");
    says(&question, true, "SELECT '?', ??", "fits"); /* names that nothing asks for do no harm */
    says(&dollar, true, "SELECT j ? 'k' AND :id", "fits");
}
END_TEST

CHECK_MAIN("database_text", parts_of_addresses, options_of_addresses, wrong_addresses, shown_without_secrets, by_position, by_name,
           what_is_left_alone, what_only_reads,
           what_begins_or_ends_a_transaction, what_stays_on_a_connection, a_list_in_a_list, wrong_statements, parameters_of_statements, parameters_that_do_not_fit)
