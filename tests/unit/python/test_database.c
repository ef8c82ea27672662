/* Databases from scripts: parameters out, answers and errors in, transactions, streams, subscriptions, what is cancelled. */
#include "fake_host.h"

/* ---- Answers ---- */

typedef struct answer {
    uint64_t id;
    int64_t affected, last_id;
    unsigned flags;
} answer_t;

static rr_datum_writer_t begin(answer_t head, uint32_t columns, const char *const *names) {
    rr_datum_writer_t writer = {0};
    rr_db_answer_begin(&writer, head.id, head.affected, head.last_id ? &head.last_id : NULL, head.flags);
    rr_datum_put_list(&writer, columns);
    for (uint32_t i = 0; i < columns; i++)
        rr_datum_put_text(&writer, RR_DATUM_TEXT, names[i], strlen(names[i]));
    return writer;
}

static void put(rr_datum_writer_t *writer, rr_datum_kind_t kind, const char *text) {
    rr_datum_put_text(writer, kind, text, strlen(text));
}

static rr_buffer_t *finish(rr_datum_writer_t *writer) {
    rr_buffer_t *buffer = rr_datum_finish(writer);
    ck_assert_ptr_nonnull(buffer);
    return buffer;
}

static rr_buffer_t *nothing(answer_t head) {
    rr_datum_writer_t writer = begin(head, 0, NULL);
    return finish(&writer);
}

/* Rows of one column of numbers, from..to. */
static rr_buffer_t *numbers(answer_t head, int from, int to) {
    static const char *const names[] = {"n"};
    rr_datum_writer_t writer = begin(head, 1, names);
    for (int i = from; i <= to; i++) {
        rr_datum_put_list(&writer, 1);
        rr_datum_put_int(&writer, i);
    }
    return finish(&writer);
}

static rr_buffer_t *failure(rr_db_error_t error, rr_executed_t executed) {
    static const char sql[] = "INSERT INTO t";
    return rr_db_answer_error(error, executed, 1062, "23000", "no luck", sql, sizeof sql - 1);
}

static rr_buffer_t *description(const char *driver) {
    static const char *const names[] = {"driver", "version", "patience"};
    rr_datum_writer_t writer = begin((answer_t){0}, 3, names);
    rr_datum_put_list(&writer, 3);
    put(&writer, RR_DATUM_TEXT, driver);
    rr_datum_put_null(&writer);
    rr_datum_put_int(&writer, 65000);
    return finish(&writer);
}

/* init() is a coroutine that begins with `db = await redrabbit.database("db@main")`. */
static void begin_script(fake_t *fake, const char *code, const char *driver, const rr_script_options_t *options) {
    char whole[8192];
    snprintf(whole, sizeof whole, "import redrabbit\nfrom redrabbit import DatabaseError\n\n%s", code);
    fake_start(fake, whole, options);
    if (options && options->asyncio)
        turn_until(fake, "query db@main op=11");
    EXPECT(fake, "query db@main op=11");
    forget(fake);
    answer_query(fake, RR_OK, description(driver));
}

/* ---- Parameters ---- */

START_TEST(test_parameters) {
    fake_t fake;
    begin_script(&fake,
                 "import datetime, decimal, uuid\n"
                 "async def init():\n"
                 "    db = await redrabbit.database('db@main')\n"
                 "    print(db.driver, db.name)\n"
                 "    zone = datetime.timezone(datetime.timedelta(hours=2))\n"
                 "    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 6)\n"
                 "    db.query('a', [None, True, -5, 2**63, 1.5, 'h\\xe9', b'x', bytearray(b'y'), memoryview(b'z')])\n"
                 "    db.query('b', (decimal.Decimal('1.50'), moment, moment.replace(tzinfo=zone), moment.date(),\n"
                 "                   moment.time(), datetime.timedelta(days=-1, microseconds=1),\n"
                 "                   uuid.UUID(int=1), {'a': [1]}, [1, 2]))\n"
                 "    db.query('c', {'name': 'bob', 'age': 3}, key=7, timeout=1.5)\n"
                 "    db.one('d')\n"
                 "    db.batch('e', [(1,), (2,)])\n"
                 "    db.batch('f', [{'x': 1}, {'x': 2}])\n",
                 "sqlite", NULL);
    EXPECT(&fake, "print sqlite db@main");
    EXPECT(&fake, "query db@main op=1 flags=0 t=0 s=0 ms=0 key= 'a' (null bool:1 int:-5 uint:9223372036854775808 real:1.5 "
                  "text:h\xc3\xa9 bytes:x bytes:y bytes:z)\n");
    EXPECT(&fake, "'b' (decimal:1.50 datetime:2026-1-2T3:4:5.6 datetime:2026-1-2T3:4:5.6+7200 date:2026-1-2T0:0:0.0 "
                  "time:0-0-0T3:4:5.6 span:-86399999999 uuid:00000000-0000-0000-0000-000000000001 json:{\"a\": [1]} "
                  "json:[1, 2])\n");
    EXPECT(&fake, "query db@main op=1 flags=1 t=0 s=0 ms=1500 key=7 'c' (text:name text:bob text:age int:3)\n");
    EXPECT(&fake, "query db@main op=1 flags=0 t=0 s=0 ms=0 key= 'd' \n");
    EXPECT(&fake, "query db@main op=2 flags=0 t=0 s=0 ms=0 key= 'e' ((int:1) (int:2))\n");
    EXPECT(&fake, "query db@main op=2 flags=1 t=0 s=0 ms=0 key= 'f' ((text:x int:1) (text:x int:2))\n");
    fake_end(&fake);
}
END_TEST

START_TEST(test_wrong_parameters) {
    fake_t fake;
    begin_script(&fake,
                 "class Odd: pass\n"
                 "async def init():\n"
                 "    db = await redrabbit.database('db@main')\n"
                 "    for params in ([1, Odd()], {'x': {1}}, [2**64], ['\\ud800'], 'abc', {1, 2}, 5, [float('nan'), [float('nan')]]):\n"
                 "        try:\n"
                 "            db.query('x', params)\n"
                 "        except (TypeError, ValueError, OverflowError) as error:\n"
                 "            print(type(error).__name__, error)\n"
                 "    for call in (lambda: db.query(5), lambda: db.query('x', timeout=0), lambda: db.batch('x', [(1,), {'a': 1}]),\n"
                 "                 lambda: db.transaction(isolation='none'), lambda: db.query('x', {5: 1})):\n"
                 "        try:\n"
                 "            call()\n"
                 "        except (TypeError, ValueError) as error:\n"
                 "            print('call', type(error).__name__, error)\n",
                 "sqlite", NULL);
    EXPECT(&fake, "print TypeError parameter 2: a database takes no Odd: pass its str(), or the .value of an Enum");
    EXPECT(&fake, "print TypeError parameter x: a database takes no set");
    EXPECT(&fake, "print OverflowError parameter 1: the int has more than 64 bits");
    EXPECT(&fake, "print ValueError parameter 1: 'utf-8' codec can't encode");
    EXPECT(&fake, "print TypeError parameters are a list or tuple, or a dict for :name, not str");
    EXPECT(&fake, "print TypeError parameters are a list or tuple, or a dict for :name, not set");
    EXPECT(&fake, "print TypeError parameters are a list or tuple, or a dict for :name");
    EXPECT(&fake, "print ValueError parameter 2: Out of range float");
    EXPECT(&fake, "print call TypeError str is wanted, not int");
    EXPECT(&fake, "print call ValueError a time-out is more than 0 and at most 86,400 seconds");
    EXPECT(&fake, "print call TypeError parameters are all by position, or all by name");
    EXPECT(&fake, "print call ValueError isolation is one of");
    EXPECT(&fake, "print call TypeError a parameter's name is str, not int");
    EXPECT_NOT(&fake, "query db@main op=1");
    fake_end(&fake);
}
END_TEST

/* The error says what to write instead. */
START_TEST(test_what_new_users_write) {
    fake_t fake;
    begin_script(&fake,
                 "def told(number, call):\n"
                 "    try:\n"
                 "        call()\n"
                 "    except Exception as error:\n"
                 "        print(number, type(error).__name__, error)\n"
                 "def enter(it):\n"
                 "    with it: pass\n"
                 "async def wait(it):\n"
                 "    await it\n"
                 "async def init():\n"
                 "    db = await redrabbit.database('db@main')\n"
                 "    tx = db.transaction()\n"
                 "    told(1, lambda: enter(tx))\n"
                 "    told(2, lambda: wait(tx).send(None))\n"
                 "    told(3, lambda: list(db.stream('x')))\n"
                 "    told(4, lambda: wait(db.stream('x')).send(None))\n"
                 "    told(5, lambda: enter(tx.savepoint()))\n"
                 "    told(6, lambda: tx.transaction())\n"
                 "    told(7, lambda: db.close())\n"
                 "    told(8, lambda: db.commit())\n"
                 "    told(9, lambda: db.fetchone)\n"
                 "    told(10, lambda: db.whatever)\n"
                 "    told(11, lambda: db.batch('x', [1, 2]))\n"
                 "    told(12, lambda: db.batch('x', ['ab']))\n"
                 "    for call in db.query, db.one, db.stream:\n"
                 "        told(13, lambda: call('x', rows=list))\n"
                 "    for name in 'game.db', '/var/game', ':memory:':\n"
                 "        told(14, lambda: wait(redrabbit.database(name)).send(None))\n"
                 "    print(hasattr(db, 'cursor'), getattr(db, 'close', None))\n",
                 "sqlite", NULL);
    EXPECT(&fake, "print 1 TypeError write `async with db.transaction() as tx:`\n");
    EXPECT(&fake, "print 2 TypeError this is not awaited: write `async with db.transaction() as tx:`\n");
    EXPECT(&fake, "print 3 TypeError write `async for row in db.stream(sql):`\n");
    EXPECT(&fake, "print 4 TypeError this is not awaited: write `async for row in db.stream(sql):`\n");
    EXPECT(&fake, "print 5 TypeError write `async with tx.savepoint():`\n");
    EXPECT(&fake, "print 6 AttributeError a Transaction has no 'transaction': write `async with tx.savepoint():`\n");
    EXPECT(&fake, "print 7 AttributeError a Database has no 'close': none is needed, all scenes of a process share its connections\n");
    EXPECT(&fake, "print 8 AttributeError a Database has no 'commit': write `async with db.transaction() as tx:`\n");
    EXPECT(&fake, "print 9 AttributeError a Database has no 'fetchone': write `await db.one(sql, params)`\n");
    EXPECT(&fake, "print 10 AttributeError a Database has no 'whatever'\n");
    EXPECT(&fake, "print 11 TypeError a batch wants a list of lists (or dicts) of parameters, such as [[1, 'a'], [2, 'b']], not int\n");
    EXPECT(&fake, "print 12 TypeError a batch wants a list of lists (or dicts) of parameters, such as [[1, 'a'], [2, 'b']], not str\n");
    EXPECT(&fake, "print 13 ValueError rows is tuple or dict, not <class 'list'>\nprint 13 ValueError rows is tuple or dict, not <class "
                  "'list'>\nprint 13 ValueError");
    EXPECT(&fake, "print 14 ValueError 'game.db' is a file: a database is opened by its URL, 'sqlite://./game.db'\n");
    EXPECT(&fake, "print 14 ValueError '/var/game' is a file: a database is opened by its URL, 'sqlite:///var/game'\n");
    EXPECT(&fake, "print 14 ValueError ':memory:' is a file: a database is opened by its URL, 'sqlite://:memory:'\n");
    EXPECT(&fake, "print False None\n");
    EXPECT_NOT(&fake, "query db@main op=1");
    fake_end(&fake);
}
END_TEST

/* ---- Answers ---- */

static rr_buffer_t *everything(void) {
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"};
    rr_datum_writer_t writer = begin((answer_t){.affected = 3, .last_id = 9}, 14, names);
    rr_moment_t moment = {.year = 2026, .month = 1, .day = 2, .hour = 3, .minute = 4, .second = 5, .microsecond = 6};
    rr_moment_t zoned = moment, utc = moment;
    zoned.flags = utc.flags = RR_MOMENT_ZONED;
    zoned.offset = -3600;
    rr_datum_put_list(&writer, 14);
    rr_datum_put_null(&writer);
    rr_datum_put_bool(&writer, true);
    rr_datum_put_int(&writer, -5);
    rr_datum_put_uint(&writer, UINT64_MAX);
    rr_datum_put_real(&writer, 0.5);
    put(&writer, RR_DATUM_TEXT, "h\xc3\xa9");
    put(&writer, RR_DATUM_BYTES, "\xff");
    put(&writer, RR_DATUM_DECIMAL, "1.50");
    put(&writer, RR_DATUM_JSON, "{\"x\": [1]}");
    put(&writer, RR_DATUM_UUID, "00000000-0000-0000-0000-000000000001");
    rr_datum_put_moment(&writer, RR_DATUM_DATETIME, &moment);
    rr_datum_put_moment(&writer, RR_DATUM_DATETIME, &zoned);
    rr_datum_put_moment(&writer, RR_DATUM_DATETIME, &utc);
    rr_datum_put_list(&writer, 3);
    rr_datum_put_moment(&writer, RR_DATUM_DATE, &moment);
    rr_datum_put_moment(&writer, RR_DATUM_TIME, &moment);
    rr_datum_put_span(&writer, -86399999999);
    return finish(&writer);
}

START_TEST(test_answers) {
    fake_t fake;
    begin_script(&fake,
                 "import datetime as d, decimal, uuid\n"
                 "async def init():\n"
                 "    db = await redrabbit.database('db@main')\n"
                 "    result = await db.query('x')\n"
                 "    m = d.datetime(2026, 1, 2, 3, 4, 5, 6)\n"
                 "    assert result == [(None, True, -5, 2**64 - 1, 0.5, 'h\\xe9', b'\\xff', decimal.Decimal('1.50'),\n"
                 "        {'x': [1]}, uuid.UUID(int=1), m, m.replace(tzinfo=d.timezone(-d.timedelta(hours=1))),\n"
                 "        m.replace(tzinfo=d.timezone.utc),\n"
                 "        [m.date(), m.time(), d.timedelta(days=-1, microseconds=1)])], result\n"
                 "    assert result[0][11].tzinfo and not result[0][10].tzinfo and result[0][1] is True\n"
                 "    assert isinstance(result, redrabbit.Result) and isinstance(result, list)\n"
                 "    assert (result.affected, result.last_id, result.columns) == (3, 9, tuple('abcdefghijklmn'))\n"
                 "    assert result.dicts()[0]['f'] == 'h\\xe9'\n"
                 "    rows = await db.query('x', rows=dict)\n"
                 "    assert rows == [{'n': 1}, {'n': 2}] and rows.last_id is None and rows.dicts() == rows\n"
                 "    assert await db.one('x') == (1,)\n"
                 "    assert await db.one('x', rows=dict) == {'n': 1}\n"
                 "    assert await db.one('x') is None\n"
                 "    assert await db.value('x') == 1\n"
                 "    assert await db.value('x') is None\n"
                 "    assert await db.batch('x', [[1]]) == 4\n"
                 "    print('all right')\n",
                 "mysql", NULL);
    answer_query(&fake, RR_OK, everything());
    answer_query(&fake, RR_OK, numbers((answer_t){0}, 1, 2));
    answer_query(&fake, RR_OK, numbers((answer_t){0}, 1, 2));
    answer_query(&fake, RR_OK, numbers((answer_t){0}, 1, 2));
    answer_query(&fake, RR_OK, numbers((answer_t){0}, 1, 0));
    answer_query(&fake, RR_OK, numbers((answer_t){0}, 1, 2));
    answer_query(&fake, RR_OK, numbers((answer_t){0}, 1, 0));
    answer_query(&fake, RR_OK, nothing((answer_t){.affected = 4}));
    EXPECT(&fake, "print all right");
    fake_end(&fake);
}
END_TEST

START_TEST(test_errors) {
    fake_t fake;
    begin_script(&fake,
                 "async def show(what):\n"
                 "    try:\n"
                 "        await what\n"
                 "    except DatabaseError as e:\n"
                 "        print(type(e).__name__, e.executed, e.code, e.state, e.sql, '|', e)\n"
                 "async def init():\n"
                 "    db = await redrabbit.database('db@main')\n"
                 "    for _ in range(20):\n"
                 "        await show(db.query('x'))\n"
                 "    assert issubclass(redrabbit.DatabaseTimeout, TimeoutError)\n"
                 "    assert issubclass(redrabbit.DatabaseConnectionError, ConnectionError)\n"
                 "    await show(redrabbit.database('db@none', timeout=0))\n"
                 "    print('end')\n",
                 "mysql", NULL);
    static const char *const classes[] = {"DatabaseConnectionError", "DatabaseAuthError", "DatabaseSyntaxError",
                                          "IntegrityError",          "DeadlockError",     "DatabaseTimeout",
                                          "DatabaseBusy",            "DataError",         "DatabaseStateError",
                                          "ResultTooBig",            "DatabaseCancelled", "DatabaseError"};
    for (int i = 0; i < 12; i++) {
        char line[200];
        answer_query(&fake, RR_OK, failure((rr_db_error_t)(i + 1), i % 2 ? RR_EXECUTED_MAYBE : RR_EXECUTED_NO));
        snprintf(line, sizeof line, "print %s %s 1062 23000 INSERT INTO t | no luck [1062 23000]%s in \"INSERT INTO t\"\n",
                 classes[i], i % 2 ? "True" : "False", i % 2 ? " (maybe executed)" : "");
        EXPECT(&fake, line);
    }
    static const struct {
        int status;
        const char *line;
    } calls[] = {
        {RR_NOROUTE, "DatabaseConnectionError False 0 NOROUTE  | there is no database named db@main [NOROUTE]\n"},
        {RR_DIED, "DatabaseConnectionError True 0 DIED "},
        {RR_LINKDOWN, "DatabaseConnectionError True 0 LINKDOWN "},
        {RR_TIMEOUT, "DatabaseTimeout True 0 TIMEOUT "},
        {RR_OVERLOAD, "DatabaseBusy False 0 OVERLOAD "},
        {RR_EHANDLER, "DatabaseStateError False 0 HANDLER  | db@main is no database: no text [HANDLER]"},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        answer_query(&fake, calls[i].status, calls[i].status == RR_EHANDLER ? rr_buffer_copy("no text", 7) : NULL);
        EXPECT(&fake, calls[i].line);
    }
    answer_query(&fake, RR_OK, rr_buffer_copy("nonsense", 8));
    EXPECT(&fake, "DatabaseStateError True 0 PROTO ");
    static const char *const names[] = {"n"};
    rr_datum_writer_t writer = begin((answer_t){0}, 1, names);
    rr_datum_put_list(&writer, 1);
    rr_datum_put_moment(&writer, RR_DATUM_DATE, &(rr_moment_t){.year = 2026, .month = 2, .day = 30});
    answer_query(&fake, RR_OK, finish(&writer));
    EXPECT(&fake, "DataError True 0   | day is out of range for month (maybe executed)");
    EXPECT(&fake, "there is no database named db@none");
    EXPECT(&fake, "print end");
    fake_end(&fake);
}
END_TEST

/* A name of the cluster may come a little later. */
START_TEST(test_name_comes_later) {
    fake_t fake;
    fake_start(&fake,
               "import redrabbit\n"
               "async def init():\n"
               "    db = await redrabbit.database('db@none', timeout=0.02)\n",
               NULL);
    EXPECT(&fake, "timer 10 0");
    fire_timer(&fake);
    EXPECT(&fake, "timer 20 0");
    fire_timer(&fake);
    EXPECT(&fake, "DatabaseConnectionError: there is no database named db@none [NOROUTE]");
    fake_end(&fake);
}
END_TEST

START_TEST(test_urls) {
    fake_t fake;
    begin_script(&fake,
                 "async def init():\n"
                 "    await redrabbit.database('db@main')\n"
                 "    db = await redrabbit.database('sqlite://./x.db', pool=3)\n"
                 "    print(db.name, db)\n"
                 "    for what in (redrabbit.database('bad://x'), redrabbit.database('db@main', pool=2),\n"
                 "                 redrabbit.database('sqlite://./x.db', pool=0)):\n"
                 "        try:\n"
                 "            await what\n"
                 "        except ValueError as error:\n"
                 "            print(error)\n"
                 "    await redrabbit.redis('db@main')\n",
                 "sqlite", NULL);
    EXPECT(&fake, "database sqlite://./x.db 3");
    answer_query(&fake, RR_OK, description("sqlite"));
    EXPECT(&fake, "print db@url <Database db@url (sqlite)>");
    EXPECT(&fake, "print no such thing");
    EXPECT(&fake, "print the pool of a database with a name is set in the graph");
    EXPECT(&fake, "print pool is 1 to 1024 connections, not 0");
    answer_query(&fake, RR_OK, description("sqlite"));
    EXPECT(&fake, "DatabaseStateError: db@main is no Redis, but sqlite");
    fake_end(&fake);
}
END_TEST

/* ---- Transactions ---- */

START_TEST(test_transaction) {
    fake_t fake;
    begin_script(&fake,
                 "async def init():\n"
                 "    db = await redrabbit.database('db@main')\n"
                 "    tx = db.transaction(isolation='serializable', read_only=True)\n"
                 "    try:\n"
                 "        tx.query('early')\n"
                 "    except redrabbit.DatabaseStateError as error:\n"
                 "        print(error)\n"
                 "    async with tx:\n"
                 "        await tx.query('in')\n"
                 "        try:\n"
                 "            async with tx.savepoint():\n"
                 "                await tx.query('undone')\n"
                 "                raise KeyError\n"
                 "        except KeyError:\n"
                 "            async with tx.savepoint():\n"
                 "                pass\n"
                 "    try:\n"
                 "        tx.query('late')\n"
                 "    except redrabbit.DatabaseStateError as error:\n"
                 "        print(error)\n"
                 "    async with db.transaction() as tx:\n"
                 "        await tx.rollback()\n"
                 "    async with db.transaction() as tx:\n"
                 "        raise ValueError('out')\n",
                 "postgresql", NULL);
    EXPECT(&fake, "print the transaction has not begun: use `async with`");
    EXPECT(&fake, "query db@main op=3 flags=1026 t=0");
    answer_query(&fake, RR_OK, nothing((answer_t){.id = 7}));
    EXPECT(&fake, "query db@main op=1 flags=0 t=7 s=0 ms=0 key= 'in'");
    answer_query(&fake, RR_OK, nothing((answer_t){0}));
    static const char *const steps[] = {"'SAVEPOINT redrabbit_1'", "'undone'", "'ROLLBACK TO SAVEPOINT redrabbit_1'",
                                        "'SAVEPOINT redrabbit_2'", "'RELEASE SAVEPOINT redrabbit_2'"};
    for (size_t i = 0; i < 5; i++) {
        EXPECT(&fake, steps[i]);
        answer_query(&fake, RR_OK, nothing((answer_t){0}));
    }
    EXPECT(&fake, "query db@main op=4 flags=0 t=7");
    answer_query(&fake, RR_OK, nothing((answer_t){0}));
    EXPECT(&fake, "print the transaction is over");
    answer_query(&fake, RR_OK, nothing((answer_t){.id = 8}));
    EXPECT(&fake, "query db@main op=5 flags=0 t=8");
    answer_query(&fake, RR_OK, nothing((answer_t){0}));
    answer_query(&fake, RR_OK, nothing((answer_t){.id = 9}));
    EXPECT(&fake, "query db@main op=5 flags=0 t=9");
    answer_query(&fake, RR_OK, failure(RR_DB_SERVER, RR_EXECUTED_NO));
    EXPECT(&fake, "ValueError: out");
    EXPECT(&fake, "The rollback failed, too: DatabaseError: no luck");
    fake_end(&fake);
}
END_TEST

static const char cancelled_script[] = "import redrabbit\n"
                                       "@redrabbit.message(1)\n"
                                       "async def work(session, msg):\n"
                                       "    try:\n"
                                       "        async with db.transaction() as tx:\n"
                                       "            await tx.query('slow')\n"
                                       "    finally:\n"
                                       "        print('left')\n"
                                       "@redrabbit.message(2)\n"
                                       "async def stream(session, msg):\n"
                                       "    async for row in db.stream('all'):\n"
                                       "        print(row)\n"
                                       "async def init():\n"
                                       "    global db\n"
                                       "    db = await redrabbit.database('db@main')\n";

static void start_cancelled(fake_t *fake, bool asyncio) {
    begin_script(fake, cancelled_script, "mysql", &(rr_script_options_t){.asyncio = asyncio});
    if (asyncio)
        turn_until(fake, "done 1 0");
}

/* A handler that is cancelled: its query too, then its transaction is rolled back. */
START_TEST(test_cancelled_handler) {
    fake_t fake;
    start_cancelled(&fake, _i);
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "0", 5), RR_SCRIPT_PENDING);
    if (_i)
        turn_until(&fake, "op=3");
    answer_query(&fake, RR_OK, nothing((answer_t){.id = 7}));
    if (_i)
        turn_until(&fake, "'slow'");
    EXPECT(&fake, "'slow'");
    EXPECT_NOT(&fake, "cancelled");
    rr_script_cancel(fake.script, 5);
    turn_until(&fake, "op=5 flags=0 t=7");
    EXPECT(&fake, "query cancelled");
    answer_query(&fake, RR_OK, failure(RR_DB_CANCELLED, RR_EXECUTED_MAYBE)); /* the query's own end: nobody waits */
    EXPECT_NOT(&fake, "done 5");
    answer_query(&fake, RR_OK, nothing((answer_t){0})); /* the rollback's */
    turn_until(&fake, "done 5 -10");
    EXPECT(&fake, "print left");
    EXPECT_NOT(&fake, "Error");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

/* The begin itself was under way: the transaction that it brings is given back. So is a stream. */
START_TEST(test_cancelled_begin) {
    fake_t fake;
    start_cancelled(&fake, _i);
    rr_script_session_t *bob = session_of(&fake, "bob"), *eve = session_of(&fake, "eve");
    ck_assert_int_eq(message(&fake, bob, 1, "0", 5), RR_SCRIPT_PENDING);
    ck_assert_int_eq(message(&fake, eve, 2, "0", 6), RR_SCRIPT_PENDING);
    if (_i)
        turn_until(&fake, "op=6");
    rr_script_cancel(fake.script, 5);
    rr_script_cancel(fake.script, 6);
    turn_until(&fake, "done 5 -10");
    turn_until(&fake, "done 6 -10");
    answer_query(&fake, RR_OK, nothing((answer_t){.id = 7}));
    EXPECT(&fake, "query db@main op=5 flags=0 t=7");
    answer_query(&fake, RR_OK, nothing((answer_t){.id = 8, .flags = RR_ANSWER_MORE}));
    EXPECT(&fake, "query db@main op=8 flags=0 t=0 s=8");
    answer_query(&fake, RR_OK, nothing((answer_t){0}));
    answer_query(&fake, RR_OK, nothing((answer_t){0}));
    rr_script_session_free(fake.script, bob);
    rr_script_session_free(fake.script, eve);
    fake_end(&fake);
}
END_TEST

/* The scene ends with queries under way: nothing is lost but their answers. */
START_TEST(test_end_in_flight) {
    fake_t fake;
    start_cancelled(&fake, _i);
    rr_script_session_t *bob = session_of(&fake, "bob"), *eve = session_of(&fake, "eve");
    ck_assert_int_eq(message(&fake, bob, 1, "0", 5), RR_SCRIPT_PENDING);
    ck_assert_int_eq(message(&fake, eve, 2, "0", 6), RR_SCRIPT_PENDING);
    if (_i)
        turn_until(&fake, "op=6");
    answer_query(&fake, RR_OK, nothing((answer_t){.id = 7}));
    if (_i)
        turn_until(&fake, "'slow'");
    rr_script_session_free(fake.script, bob);
    rr_script_session_free(fake.script, eve);
    ck_assert(rr_script_destroy(fake.script));
    EXPECT(&fake, "query db@main op=5 flags=0 t=7"); /* nobody waits for it */
    fake_clean(&fake);
}
END_TEST

/* ---- Streams ---- */

START_TEST(test_stream) {
    fake_t fake;
    begin_script(&fake,
                 "async def init():\n"
                 "    db = await redrabbit.database('db@main')\n"
                 "    stream = db.stream('all', [1], timeout=2)\n"
                 "    async for row in stream:\n"
                 "        print(row, stream.columns)\n"
                 "    async for row in db.stream('some', rows=dict):\n"
                 "        print(row)\n"
                 "        break\n"
                 "    print('over')\n",
                 "mysql", NULL);
    EXPECT(&fake, "query db@main op=6 flags=0 t=0 s=0 ms=2000 key= 'all' (int:1)");
    answer_query(&fake, RR_OK, numbers((answer_t){.id = 3, .flags = RR_ANSWER_MORE}, 1, 2));
    EXPECT(&fake, "print (1,) ('n',)\n");
    EXPECT(&fake, "print (2,) ('n',)\n");
    ck_assert_uint_eq(times(&fake, "op=7 flags=0 t=0 s=3 ms=2000"), 1);
    answer_query(&fake, RR_OK, numbers((answer_t){.id = 3}, 3, 3));
    EXPECT(&fake, "print (3,) ('n',)\n");
    ck_assert_uint_eq(times(&fake, "op=7"), 1);
    answer_query(&fake, RR_OK, numbers((answer_t){.id = 4, .flags = RR_ANSWER_MORE}, 1, 2));
    EXPECT(&fake, "print {'n': 1}\n");
    EXPECT_NOT(&fake, "print {'n': 2}\n");
    EXPECT(&fake, "query db@main op=8 flags=0 t=0 s=4"); /* which ends the part asked for ahead, too */
    EXPECT_NOT(&fake, "query cancelled");
    EXPECT(&fake, "print over");
    fake_end(&fake);
}
END_TEST

/* ---- Redis ---- */

static rr_buffer_t *reply(rr_datum_kind_t kind, const char *text) {
    static const char *const names[] = {"0"};
    rr_datum_writer_t writer = begin((answer_t){0}, 1, names);
    rr_datum_put_list(&writer, 1);
    put(&writer, kind, text);
    return finish(&writer);
}

START_TEST(test_redis) {
    fake_t fake;
    begin_script(&fake,
                 "async def init():\n"
                 "    redis = await redrabbit.database('db@main')\n"
                 "    assert await redis.get('k') == 'h\\xe9'\n"
                 "    assert await redis.raw.get('k') == b'\\xff'\n"
                 "    try:\n"
                 "        await redis.get('k')\n"
                 "    except redrabbit.DataError as error:\n"
                 "        print(error)\n"
                 "    assert await redis.set('k', b'v', ex=0.5, nx=True) is True\n"
                 "    try:\n"
                 "        await redis.incr('k')\n"
                 "    except redrabbit.DataError as error:\n"
                 "        print(error, error.state, error.executed)\n"
                 "    async with redis.pipeline(atomic=True) as pipe:\n"
                 "        n = pipe.incr('n', 2)\n"
                 "        ok = pipe.set('a', 1.5)\n"
                 "    assert await n == 3 and await ok is True and pipe.results == [3, True]\n"
                 "    try:\n"
                 "        async with redis.pipeline() as pipe:\n"
                 "            pipe.incr('n')\n"
                 "            bad = pipe.get('list')\n"
                 "    except DatabaseError as error:\n"
                 "        assert bad.exception() is error\n"
                 "        print('pipe', error, pipe.results[0])\n"
                 "    try:\n"
                 "        redis.set('k', True)\n"
                 "    except TypeError as error:\n"
                 "        print(error)\n",
                 "redis", NULL);
    EXPECT(&fake, "query db@main op=9 flags=0 t=0 s=0 ms=0 key= '' ((text:GET text:k))");
    answer_query(&fake, RR_OK, reply(RR_DATUM_BYTES, "h\xc3\xa9"));
    answer_query(&fake, RR_OK, reply(RR_DATUM_BYTES, "\xff"));
    answer_query(&fake, RR_OK, reply(RR_DATUM_BYTES, "\xff"));
    EXPECT(&fake, "print the reply is not UTF-8: `redis.raw` brings it as bytes (maybe executed)");
    EXPECT(&fake, "((text:SET text:k bytes:v text:PX int:500 text:NX))");
    answer_query(&fake, RR_OK, reply(RR_DATUM_TEXT, "OK"));
    answer_query(&fake, RR_OK, reply(RR_DATUM_ERROR, "WRONGTYPE no number"));
    EXPECT(&fake, "print WRONGTYPE no number WRONGTYPE False\n");
    EXPECT(&fake, "query db@main op=9 flags=4 t=0 s=0 ms=0 key= '' ((text:INCRBY text:n int:2) (text:SET text:a real:1.5))");
    static const char *const names[] = {"0", "1"};
    rr_datum_writer_t writer = begin((answer_t){0}, 2, names);
    rr_datum_put_list(&writer, 2);
    rr_datum_put_int(&writer, 3);
    put(&writer, RR_DATUM_TEXT, "OK");
    answer_query(&fake, RR_OK, finish(&writer));
    writer = begin((answer_t){0}, 2, names);
    rr_datum_put_list(&writer, 2);
    rr_datum_put_int(&writer, 4);
    put(&writer, RR_DATUM_ERROR, "ERR wrong");
    answer_query(&fake, RR_OK, finish(&writer));
    EXPECT(&fake, "print pipe ERR wrong 4\n");
    EXPECT(&fake, "print parameter 3: a word of a command is str, bytes, int or float, not bool");
    fake_end(&fake);
}
END_TEST

static void event(fake_t *fake, uint64_t number, const char *message, int64_t lost) {
    rr_datum_writer_t writer = {0};
    rr_datum_put_int(&writer, (int64_t)number);
    put(&writer, RR_DATUM_TEXT, "news");
    rr_datum_put_null(&writer);
    put(&writer, RR_DATUM_BYTES, message);
    rr_datum_put_int(&writer, lost);
    rr_buffer_t *buffer = finish(&writer);
    rr_script_query_event(fake->script, rr_buffer_data(buffer), rr_buffer_size(buffer));
    rr_buffer_unref(buffer);
}

START_TEST(test_subscription) {
    fake_t fake;
    begin_script(&fake,
                 "async def heard(channel, message):\n"
                 "    print(channel, message)\n"
                 "    if message == 'end':\n"
                 "        await news.unsubscribe()\n"
                 "        print('lost', news.lost)\n"
                 "async def init():\n"
                 "    global news\n"
                 "    redis = await redrabbit.redis('db@main')\n"
                 "    news = await redis.subscribe('news', 'more', heard)\n",
                 "redis", &(rr_script_options_t){.asyncio = _i});
    if (_i)
        turn_until(&fake, "op=10");
    EXPECT(&fake, "query db@main op=10 flags=0 t=0 s=0 ms=0 key= '' (text:news text:more)");
    uint64_t number = fake.queries[0];
    answer_query(&fake, RR_OK, nothing((answer_t){.id = 55}));
    event(&fake, number, "fast", 0); /* in a scene with an event loop, before the answer is looked at */
    if (_i)
        turn_until(&fake, "timer 0 0");
    while (fake.timer_count)
        fire_timer(&fake);
    turn_until(&fake, "print news fast");
    event(&fake, number + 1, "of another", 0);
    event(&fake, number, "h\xc3\xa9", 2);
    turn_until(&fake, "print news h\xc3\xa9");
    forget(&fake);
    rr_script_database_down(fake.script, "db@other");
    rr_script_database_down(fake.script, "db@main"); /* it subscribes anew, until that works */
    turn_until(&fake, "op=10");
    answer_query(&fake, RR_NOROUTE, NULL);
    turn_until(&fake, "there is no database named db@main");
    forget(&fake);
    if (!_i)
        fire_timer(&fake); /* the pause before it tries again */
    turn_until(&fake, "op=10");
    event(&fake, number, "old", 0);
    number = fake.queries[0];
    answer_query(&fake, RR_OK, nothing((answer_t){.id = 56}));
    event(&fake, number, "end", 1);
    if (_i) { /* faster than the answer is looked at */
        turn_until(&fake, "timer 0 0");
        fire_timer(&fake);
    }
    turn_until(&fake, "op=8 flags=0 t=0 s=56");
    answer_query(&fake, RR_OK, nothing((answer_t){0}));
    turn_until(&fake, "print lost 4");
    event(&fake, number, "late", 0);
    EXPECT_NOT(&fake, "late");
    EXPECT_NOT(&fake, "another");
    fake_end(&fake);
}
END_TEST

/* ---- ffext ---- */

static rr_buffer_t *texts(void) {
    static const char *const names[] = {"id", "name"};
    rr_datum_writer_t writer = begin((answer_t){0}, 2, names);
    rr_datum_put_list(&writer, 2);
    put(&writer, RR_DATUM_TEXT, "1");
    rr_datum_put_null(&writer);
    return finish(&writer);
}

START_TEST(test_await_is_forgotten) {
    fake_t fake;
    begin_script(&fake,
                 "async def init():\n"
                 "    db = await redrabbit.database('db@main')\n"
                 "    try:\n"
                 "        for row in db.query('SELECT 1'):\n"
                 "            pass\n"
                 "    except TypeError as error:\n"
                 "        print(error)\n"
                 "    print(await db.value('SELECT 2'))\n",
                 "sqlite", NULL);
    EXPECT(&fake, "print this is no list yet, but a _redrabbit.Future: write `await` before it\n");
    answer_query(&fake, RR_OK, numbers((answer_t){0}, 1, 1));
    answer_query(&fake, RR_OK, numbers((answer_t){0}, 1, 1));
    turn_until(&fake, "print 1\n");
    fake_end(&fake);
}
END_TEST

START_TEST(test_ffdb) {
    fake_t fake;
    fake_init(&fake, "import ffext\n"
                     "def heard(result, *data):\n"
                     "    print('heard', result.flag, result.result, result.column, data)\n"
                     "def init():\n"
                     "    db = ffext.ffdb_create('mysql://host:3306/user/word/game')\n"
                     "    print(db.host(), db.db_id)\n"
                     "    result = db.sync_query('select 2')\n"
                     "    assert result.flag and result.result == [['1', '']] and result.column == ['id', 'name']\n"
                     "    result.dump()\n"
                     "    assert not db.sync_query('bad').flag\n"
                     "    db.query('a', heard)\n"
                     "    db.query('b', heard, {'x': 1})\n"
                     "    db.query('c')\n"
                     "    assert ffext.escape(\"it's a \\\\ \\n\") == \"it''s a \\\\\\\\ \\\\n\"\n"
                     "    assert db.escape('\\\\') == '\\\\\\\\'\n"
                     "    assert ffext.ffdb_create('bad://x') is None\n"
                     "    assert ffext.ffdb_create('db@main') is None\n");
    fake.waited[0] = description("mysql");
    fake.waited[1] = numbers((answer_t){0}, 1, 1);
    fake.waited[2] = texts();
    int rc = fake_open(&fake, &(rr_script_options_t){.asyncio = _i});
    ck_assert_msg(rc == RR_OK, "%s\n%s", fake.why, fake.record);
    EXPECT(&fake, "database mysql://host:3306/user/word/game 1\n");
    EXPECT(&fake, "waits 0 ms at most\nwait db@url op=11 flags=0 t=0 s=0 ms=0 key= '' \n");
    EXPECT(&fake, "waits 65000 ms at most\nwait db@url op=1 flags=16 t=0 s=0 ms=0 key=ffdb 1 'SELECT 1' \n");
    EXPECT(&fake, "print mysql://host:3306/user/word/game 1\n");
    EXPECT(&fake, "print True [['1', '']] ['id', 'name']\n");
    EXPECT(&fake, "log 2 DB DatabaseConnectionError: there is no database named db@url");
    EXPECT(&fake, "query db@url op=1 flags=16 t=0 s=0 ms=0 key=ffdb 1 'a' \n");
    answer_query(&fake, RR_OK, texts());
    turn_until(&fake, "print heard True [['1', '']] ['id', 'name'] ()\n");
    answer_query(&fake, RR_OK, failure(RR_DB_SYNTAX, RR_EXECUTED_NO));
    turn_until(&fake, "print heard False [] [] ({'x': 1},)\n");
    EXPECT(&fake, "log 2 DB DatabaseSyntaxError: no luck");
    answer_query(&fake, RR_OK, failure(RR_DB_SYNTAX, RR_EXECUTED_NO));
    EXPECT(&fake, "log 2 DB ValueError: no such thing");
    EXPECT_NOT(&fake, "never retrieved");
    fake_end(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("python.database");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, python_up, python_down);
    tcase_add_test(all, test_parameters);
    tcase_add_test(all, test_wrong_parameters);
    tcase_add_test(all, test_what_new_users_write);
    tcase_add_test(all, test_answers);
    tcase_add_test(all, test_errors);
    tcase_add_test(all, test_name_comes_later);
    tcase_add_test(all, test_urls);
    tcase_add_test(all, test_transaction);
    tcase_add_loop_test(all, test_cancelled_handler, 0, 2);
    tcase_add_loop_test(all, test_cancelled_begin, 0, 2);
    tcase_add_loop_test(all, test_end_in_flight, 0, 2);
    tcase_add_test(all, test_stream);
    tcase_add_test(all, test_redis);
    tcase_add_loop_test(all, test_subscription, 0, 2);
    tcase_add_test(all, test_await_is_forgotten);
    tcase_add_loop_test(all, test_ffdb, 0, 2);
    suite_add_tcase(suite, all);
    return run_suite(suite);
}
