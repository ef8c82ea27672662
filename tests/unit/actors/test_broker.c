/* The broker: grants, epochs, releases, deaths, subscribers. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/broker.h"
#include "tests/unit/check_main.h"

/* A client that does what the test thread tells it and hands back what it gets. */
enum { DO_REGISTER = 1, DO_RELEASE, DO_LOOKUP, DO_SUBSCRIBE, DO_DIE };

typedef struct outcome {
    int status;
    rr_broker_entry_t entry;
} outcome_t;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    outcome_t outcomes[100], changes[100];
    unsigned count, change_count;
} got = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static rr_system_t *sys;
static rr_addr_t broker;

static void add(outcome_t *list, unsigned *count, int status, rr_message_t *msg) {
    pthread_mutex_lock(&got.lock);
    outcome_t *o = &list[(*count)++];
    memset(o, 0, sizeof(*o));
    o->status = status;
    if (status == RR_OK && rr_message_size(msg) > 0)
        ck_assert_int_eq(rr_broker_entry_of(msg, &o->entry), RR_OK);
    pthread_cond_broadcast(&got.changed);
    pthread_mutex_unlock(&got.lock);
}

static void on_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    add(got.outcomes, &got.count, status, msg);
}

static void receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_broker_entry_t entry;
    uint32_t type = rr_message_type(msg);
    if (type == RR_BROKER_CHANGE) {
        add(got.changes, &got.change_count, RR_OK, msg);
        return;
    }
    if (type == DO_DIE) {
        rr_exit(self, RR_OK);
        return;
    }
    if (type == DO_SUBSCRIBE) {
        ck_assert_int_eq(rr_send(self, broker, RR_BROKER_SUBSCRIBE, NULL, 0), RR_OK);
        return;
    }
    ck_assert_int_eq(rr_broker_entry(rr_message_data(msg), RR_NOBODY, &entry), RR_OK);
    uint32_t kind = type == DO_REGISTER  ? RR_BROKER_REGISTER
                    : type == DO_RELEASE ? RR_BROKER_RELEASE
                                         : RR_BROKER_LOOKUP;
    ck_assert_int_eq(rr_call(self, broker, kind, &entry, sizeof(entry), 0, on_reply, NULL, NULL), RR_OK);
}

static const rr_behavior_t client = {.name = "client", .receive = receive};

static void wait_for(unsigned *count, unsigned at_least) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&got.lock);
    int rc = 0;
    while (*count < at_least && rc == 0)
        rc = pthread_cond_timedwait(&got.changed, &got.lock, &until);
    pthread_mutex_unlock(&got.lock);
    ck_assert_uint_ge(*count, at_least);
}

static outcome_t ask(rr_addr_t who, uint32_t what, const char *name) {
    unsigned before = got.count;
    ck_assert_int_eq(rr_system_send(sys, who, what, name, strlen(name) + 1), RR_OK);
    wait_for(&got.count, before + 1);
    return got.outcomes[before];
}

static rr_addr_t new_client(void) {
    rr_addr_t addr;
    rr_spawn_t spec = {.behavior = &client};
    ck_assert_int_eq(rr_system_spawn(sys, &spec, &addr), RR_OK);
    return addr;
}

static void begin(void) {
    rr_options_t options;
    rr_broker_options_t broker_options;
    rr_options_init(&options);
    rr_broker_options_init(&broker_options);
    options.log_screen = false;
    ck_assert_int_eq(rr_system_create(&sys, &options), RR_OK);
    ck_assert_int_eq(rr_system_start(sys), RR_OK);
    ck_assert_int_eq(rr_broker_spawn(sys, &broker_options, &broker), RR_OK);
}

static void end(void) {
    rr_system_stop(sys);
    rr_system_destroy(sys);
}

START_TEST(a_name_has_one_owner) {
    begin();
    rr_addr_t a = new_client(), b = new_client();
    outcome_t first = ask(a, DO_REGISTER, "scene@0");
    ck_assert_int_eq(first.status, RR_OK);
    ck_assert_uint_eq(first.entry.address, a);
    ck_assert_int_eq(ask(b, DO_REGISTER, "scene@0").status, RR_EHANDLER);
    ck_assert_uint_eq(ask(a, DO_REGISTER, "scene@0").entry.epoch, first.entry.epoch); /* it has it already */
    ck_assert_uint_eq(ask(b, DO_LOOKUP, "scene@0").entry.address, a);
    ck_assert_uint_eq(ask(b, DO_LOOKUP, "scene@1").entry.address, RR_NOBODY);
    ck_assert_int_eq(ask(b, DO_RELEASE, "scene@0").status, RR_EHANDLER); /* not its own */
    ck_assert_int_eq(ask(a, DO_RELEASE, "scene@0").status, RR_OK);
    outcome_t second = ask(b, DO_REGISTER, "scene@0");
    ck_assert_int_eq(second.status, RR_OK);
    ck_assert_uint_gt(second.entry.epoch, first.entry.epoch);
    end();
}
END_TEST

START_TEST(subscribers_hear_what_is_and_what_changes) {
    begin();
    rr_addr_t a = new_client(), b = new_client(), watcher = new_client();
    ask(a, DO_REGISTER, "one");
    ck_assert_int_eq(rr_system_send(sys, watcher, DO_SUBSCRIBE, NULL, 0), RR_OK);
    wait_for(&got.change_count, 1);
    ask(b, DO_REGISTER, "two");
    wait_for(&got.change_count, 2);
    ck_assert_int_eq(rr_system_send(sys, a, DO_DIE, NULL, 0), RR_OK); /* its names fall free */
    wait_for(&got.change_count, 3);
    ask(b, DO_RELEASE, "two");
    wait_for(&got.change_count, 4);
    static const char *const names[] = {"one", "two", "one", "two"};
    const rr_addr_t owners[] = {a, b, RR_NOBODY, RR_NOBODY};
    for (int i = 0; i < 4; i++) {
        ck_assert_str_eq(got.changes[i].entry.name, names[i]);
        ck_assert_uint_eq(got.changes[i].entry.address, owners[i]);
    }
    ck_assert_uint_eq(ask(b, DO_LOOKUP, "one").entry.address, RR_NOBODY);
    end();
}
END_TEST

START_TEST(entries_are_checked) {
    rr_broker_entry_t entry;
    ck_assert_int_eq(rr_broker_entry("", RR_NOBODY, &entry), RR_EINVAL);
    ck_assert_int_eq(rr_broker_entry("no spaces", RR_NOBODY, &entry), RR_EINVAL);
    ck_assert_int_eq(rr_broker_entry("gate@0#1", 5, &entry), RR_OK);
    ck_assert_uint_eq(entry.address, 5);
}
END_TEST

CHECK_MAIN("broker", a_name_has_one_owner, subscribers_hear_what_is_and_what_changes, entries_are_checked)
