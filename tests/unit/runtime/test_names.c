/* Names: legality, uniqueness, several per actor, what death does to them. */
#include "tests/unit/runtime/rig.h"

static latch_t done = LATCH_INIT;

START_TEST(legality) {
    ck_assert(rr_name_legal("scene@0"));
    ck_assert(rr_name_legal("a.b-c_d:e/f#9Z"));
    ck_assert(!rr_name_legal(""));
    ck_assert(!rr_name_legal("with space"));
    ck_assert(!rr_name_legal("new\nline"));
    ck_assert(!rr_name_legal("\xc3\xa4"));
    ck_assert(!rr_name_legal("a\"b"));
    char name[129];
    memset(name, 'x', 128);
    name[128] = '\0';
    ck_assert(!rr_name_legal(name));
    name[127] = '\0';
    ck_assert(rr_name_legal(name));
}
END_TEST

static void nothing(rr_actor_t *self, void *state, rr_message_t *msg) {}
static const rr_behavior_t plain = {.name = "plain", .receive = nothing};

START_TEST(look_up_and_reuse) {
    rr_system_t *system = rig_start(2);
    ck_assert_uint_eq(rr_lookup(system, "a"), RR_NOBODY);
    for (int i = 0; i < 200; i++) {
        rr_spawn_t spec = {.behavior = &plain, .name = "a"};
        rr_addr_t addr = rig_spawn(system, &spec), other = RR_NOBODY;
        ck_assert_uint_eq(rr_lookup(system, "a"), addr);
        ck_assert_int_eq(rr_system_spawn(system, &spec, &other), RR_EEXIST);
        ck_assert_uint_eq(rr_system_actor_count(system), 1);
        rr_kill(system, addr, RR_OK);
        rig_quiet(system);
        ck_assert_uint_eq(rr_lookup(system, "a"), RR_NOBODY);
    }
    rr_spawn_t spec = {.behavior = &plain, .name = "not legal"};
    ck_assert_int_eq(rr_system_spawn(system, &spec, NULL), RR_EINVAL);
    rig_quiet(system);
    rig_end(system);
}
END_TEST

static void register_more(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_system_t *system = rr_system_of(self);
    MUST(rr_register(self, "second") == RR_OK);
    MUST(rr_register(self, "second") == RR_EEXIST);
    MUST(rr_register(self, "taken") == RR_EEXIST);
    MUST(rr_register(self, "bad name") == RR_EINVAL);
    MUST(rr_unregister(self, "taken") == RR_ENOENT);
    MUST(rr_unregister(self, "nobody") == RR_ENOENT);
    MUST(rr_lookup(system, "first") == rr_self(self) && rr_lookup(system, "second") == rr_self(self));
    char name[32];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "many/%d", i);
        MUST(rr_register(self, name) == RR_OK);
    }
    MUST(rr_unregister(self, "many/50") == RR_OK);
    MUST(rr_unregister(self, "many/50") == RR_ENOENT);
    MUST(rr_lookup(system, "many/50") == RR_NOBODY);
    MUST(rr_unregister(self, "first") == RR_OK);
    MUST(rr_unregister(self, "second") == RR_OK);
    latch_add(&done, 1);
    rr_exit(self, RR_OK);
}
static const rr_behavior_t many_named = {.name = "many", .receive = register_more};

START_TEST(several_names) {
    rr_system_t *system = rig_start(2);
    rr_addr_t taken = rig_spawn(system, &(rr_spawn_t){.behavior = &plain, .name = "taken"});
    rig_send(system, rig_spawn(system, &(rr_spawn_t){.behavior = &many_named, .name = "first"}), 0);
    latch_wait(&done, 1);
    while (rr_system_actor_count(system) > 1)
        ;
    ck_assert_uint_eq(rr_lookup(system, "many/99"), RR_NOBODY);
    ck_assert_uint_eq(rr_lookup(system, "taken"), taken);
    rig_end(system);
}
END_TEST

/* Threads fight for one name: never two owners, and whoever is found is alive or just died. */
static _Atomic(int) owners, winners;
static int own(rr_actor_t *self, void *state, const void *arg) {
    MUST(atomic_fetch_add(&owners, 1) == 0);
    winners++;
    rr_exit(self, RR_OK);
    return RR_OK;
}
static void disown(rr_actor_t *self, void *state, int reason) { atomic_fetch_sub(&owners, 1); }
static const rr_behavior_t owner = {.name = "owner", .start = own, .receive = nothing, .finish = disown};

static void *fight(void *context) {
    for (int i = 0; i < 3000; i++) {
        int rc = rr_system_spawn(context, &(rr_spawn_t){.behavior = &owner, .name = "prize"}, NULL);
        MUST(rc == RR_OK || rc == RR_EEXIST);
        rig_try_send(context, rr_lookup(context, "prize"), 1);
    }
    return NULL;
}

START_TEST(contested) {
    rr_system_t *system = rig_start(2);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, fight, system), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    rig_quiet(system);
    ck_assert_int_eq(owners, 0);
    ck_assert_int_gt(winners, 0);
    ck_assert_uint_eq(rr_lookup(system, "prize"), RR_NOBODY);
    rig_end(system);
}
END_TEST

CHECK_MAIN("names", legality, look_up_and_reuse, several_names, contested)
