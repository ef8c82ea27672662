/* Output that somebody may not read: nothing blocks, what has room comes in order, what has none is counted. */
#include "conf/printer.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/check_main.h"

static rr_printer_t *printer;
static int ends[2];
static char got[4 << 20];
static size_t size;

static void up(void) {
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    ck_assert_ptr_nonnull(printer = rr_printer_new(ends[1]));
}

static void down(void) {
    close(ends[1]);
    close(ends[0]);
}

/* All that the printer writes while somebody reads. */
static void read_all(void) {
    bool left = true;
    for (ssize_t n = 1; left || n > 0;) {
        left = rr_printer_write(printer);
        n = read(ends[0], got + size, sizeof got - 1 - size);
        size += n > 0 ? (size_t)n : 0;
    }
    got[size] = 0;
}

START_TEST(in_order) {
    up();
    size_t said = 0;
    for (; !rr_printer_is_full(printer); said++) { /* half of the room, and a pipe */
        rr_printer_say(printer, "line %zu\n", said);
        (void)rr_printer_write(printer);
    }
    ck_assert(rr_printer_write(printer)); /* something is left, and this came back */
    read_all();
    char *at = got, line[32];
    for (size_t i = 0; i < said; i++) {
        int length = snprintf(line, sizeof line, "line %zu\n", i);
        ck_assert_msg(strncmp(at, line, (size_t)length) == 0, "%.20s is not %s", at, line);
        at += length;
    }
    ck_assert_int_eq(*at, 0);
    rr_printer_free(printer, 0);
    down();
}
END_TEST

START_TEST(what_has_no_room_is_counted) {
    size_t lines = 0, missing = 0;
    up();
    for (size_t i = 0; i < 100000; i++)
        rr_printer_say(printer, "0123456789 %zu\n", i);
    read_all();
    rr_printer_say(printer, "again\n");
    read_all();
    char *told = strstr(got, "redrabbit: ");
    ck_assert_ptr_nonnull(told);
    ck_assert_int_eq(sscanf(told, "redrabbit: %zu lines are missing here: nobody read them in time\n", &missing), 1);
    for (char *at = got; at < told; at = strchr(at, '\n') + 1, lines++)
        ck_assert_int_eq(strncmp(at, "0123456789 ", 11), 0);
    ck_assert_uint_eq(lines + missing, 100000);
    ck_assert_str_eq(strchr(told, '\n'), "\nagain\n");
    rr_printer_free(printer, 0);
    down();
}
END_TEST

START_TEST(the_last_words) {
    up();
    rr_printer_say(printer, "bye\n");
    rr_printer_free(printer, 1000);
    ck_assert_int_eq(read(ends[0], got, sizeof got), 4);
    ck_assert_ptr_nonnull(printer = rr_printer_new(ends[1]));
    while (!rr_printer_is_full(printer))
        rr_printer_say(printer, "nobody reads this\n");
    rr_printer_free(printer, 20); /* comes back */
    down();
}
END_TEST

START_TEST(a_closed_pipe) {
    up();
    close(ends[0]);
    rr_printer_say(printer, "to nobody\n");
    ck_assert(!rr_printer_write(printer));
    rr_printer_free(printer, 60000);
    close(ends[1]);
}
END_TEST

CHECK_MAIN("conf.printer", in_order, what_has_no_room_is_counted, the_last_words, a_closed_pipe)
