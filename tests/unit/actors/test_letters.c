/* Scenes that watch dead letters: who is told of what, under which names, and that a flood of them is none of the scene. */
#include "actors/protocol.h"
#include "fixture.h"

static _Atomic(unsigned) letters, missed; /* of scene@0; written by its turns */
static _Atomic(bool) hold;                /* the test writes */

static int watcher_load(void *state, rr_scene_t *scene, const void *arg, uint64_t token, char *why, size_t size) {
    *(rr_scene_t **)state = scene;
    note("%s watches: %s", rr_scene_name(scene), rr_error_name(rr_scene_watch_dead_letters(scene)));
    return RR_OK;
}

static int watcher_letter(void *state, const rr_letter_t *letter) {
    const char *name = rr_scene_name(*(rr_scene_t **)state);
    letters += !strcmp(name, "scene@0");
    missed += !strcmp(name, "scene@0") ? (unsigned)letter->lost : 0;
    if (letters < 50)
        note("%s: %s -> %s %s %s %u", name, letter->from, letter->to, letter->reason, letter->what, letter->size);
    for (int i = 0; hold && i < PATIENCE_MS; i++)
        usleep(1000); /* a handler that takes long */
    return !strcmp(name, "scene@2") ? RR_ENOENT : RR_OK; /* that one wants no more */
}

static const rr_scene_logic_t watcher = {
    .name = "watcher", .state_size = sizeof(rr_scene_t *), .load = watcher_load, .dead_letter = watcher_letter};

static void up(size_t scenes) {
    prepare();
    node.scene_count = scenes;
    for (size_t i = 0; i < scenes; i++)
        node.scenes[i].logic = &watcher;
    start();
    await_gauge("rr_dead_letter_watchers", (double)scenes); /* a gate is ready before all of its scenes are */
}

static void lose(unsigned count, uint32_t type) {
    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(rr_system_send(node.system, node.addresses[0] + (40 << 24), type, "12345", 5), RR_NOROUTE);
}

START_TEST(several_are_told) {
    char line[100];
    up(3);
    lose(1, 77);
    for (int i = 0; i < 3; i++) {
        snprintf(line, sizeof(line), "scene@%d:  -> #1:%u NOROUTE other 5", i, rr_addr_slot(node.addresses[0]) + 40);
        await_line(line);
    }
    await_gauge("rr_dead_letter_watchers", 2); /* scene@2 wants no more */
    static const uint32_t types[] = {RR_TYPE_INPUT, RR_TYPE_INPUT_BODY, RR_TYPE_OUTPUT, RR_TYPE_OUTPUT_BODY};
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(rr_system_send(node.system, node.addresses[0] + (40 << 24), types[i], "1234", 1 + i), RR_NOROUTE);
        snprintf(line, sizeof(line), "scene@1:  -> #1:%u NOROUTE %s clients %u", rr_addr_slot(node.addresses[0]) + 40,
                 i < 2 ? "from" : "to", 1 + i);
        await_line(line);
    }
    await_metric("rr_dead_letters_total", 5);
    ck_assert_uint_eq(times_noted("scene@2: *"), 1);
    ck_assert_double_eq(metric("rr_dead_letters_untold_total"), 0);
    finish();
}
END_TEST

/* No more of them than have room wait for a scene; how many it has missed stands in the next one. */
START_TEST(a_flood) {
    up(1);
    hold = true;
    lose(1, 77);
    await_line("scene@0: *");
    lose(5000, 77);
    client_t *a = dial(); /* her login waits behind the letters that it knows of, not behind all */
    tell(a, 0, "alice");
    await_metric("rr_dead_letters_untold_total", 5001 - 1 - 256); /* the one that is looked at has made room */
    hold = false;
    for (int i = 0; i < PATIENCE_MS && letters < 257; i++)
        usleep(1000);
    lose(1, 77);
    for (int i = 0; i < PATIENCE_MS && letters < 258; i++)
        usleep(1000);
    ck_assert_uint_eq(letters, 258);
    ck_assert_uint_eq(missed, 5002 - 258);
    hang_up(a);
    finish();
}
END_TEST

CHECK_MAIN("actors.letters", several_are_told, a_flood)
