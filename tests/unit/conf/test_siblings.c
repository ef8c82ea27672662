/* What `redrabbit up` and its nodes tell each other. */
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "conf/siblings.h"
#include "tests/unit/check_main.h"

typedef struct heard {
    sem_t some;
    rr_sibling_t last;
} heard_t;

static void on_dead(void *context, const rr_sibling_t *dead) {
    heard_t *heard = context;
    heard->last = *dead;
    sem_post(&heard->some);
}

static time_t now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void expect(heard_t *heard, unsigned node, uint64_t incarnation) {
    struct timespec pause = {0, 2000000};
    for (time_t begun = now_s(); sem_trywait(&heard->some) != 0; nanosleep(&pause, NULL))
        ck_assert_msg(now_s() - begun < 20, "nothing was heard of %u", node);
    ck_assert_uint_eq(heard->last.node, node);
    ck_assert_uint_eq(heard->last.incarnation, incarnation);
}

START_TEST(both_ways) {
    int ends[2];
    heard_t heard;
    rr_sibling_t self = {7, 0xfedcba9876543210u}, dead = {8, 1}, other = {9, UINT64_MAX}, got;
    rr_siblings_t *siblings;
    ck_assert_int_eq(sem_init(&heard.some, 0, 0), 0);
    ck_assert(rr_siblings_pair(ends));
    ck_assert(!rr_siblings_who(ends[0], &got)); /* nobody has said anything, and nobody is waited for */
    ck_assert(rr_siblings_pass(ends[1]));
    ck_assert_int_eq(fcntl(ends[1], F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(rr_siblings_take(), ends[1]);
    ck_assert_int_ne(fcntl(ends[1], F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(rr_siblings_take(), -1); /* what it starts finds nothing */
    rr_siblings_tell(ends[0], &dead);         /* before it listens */
    ck_assert_int_eq(rr_siblings_start(ends[1], &self, on_dead, &heard, &siblings), RR_OK);
    expect(&heard, 8, 1);
    rr_siblings_tell(ends[0], &other);
    expect(&heard, 9, UINT64_MAX);
    rr_siblings_stop(siblings);
    ck_assert(rr_siblings_who(ends[0], &got)); /* also when it has ended */
    ck_assert_uint_eq(got.node, 7);
    ck_assert_uint_eq(got.incarnation, 0xfedcba9876543210u);
    ck_assert(!rr_siblings_who(ends[0], &got));
    rr_siblings_tell(ends[0], &dead); /* nobody hears it, which hurts nobody */
    close(ends[0]);
    sem_destroy(&heard.some);
}
END_TEST

/* Two die at once: the second had not heard of the first. */
START_TEST(died_with_something_unread) {
    int ends[2];
    rr_sibling_t self = {7, 70}, dead = {8, 80}, got;
    ck_assert(rr_siblings_pair(ends));
    rr_siblings_tell(ends[1], &self);
    rr_siblings_tell(ends[0], &dead);
    close(ends[1]);
    ck_assert(rr_siblings_who(ends[0], &got));
    ck_assert_uint_eq(got.node, 7);
    ck_assert_uint_eq(got.incarnation, 70);
    ck_assert(!rr_siblings_who(ends[0], &got));
    close(ends[0]);
}
END_TEST

START_TEST(nobody_there) {
    int ends[2];
    char text[16];
    rr_sibling_t self = {7, 7};
    rr_siblings_t *siblings;
    ck_assert(rr_siblings_pair(ends));
    close(ends[0]);
    ck_assert_int_eq(rr_siblings_start(ends[1], &self, on_dead, NULL, &siblings), RR_EIO);
    rr_siblings_stop(NULL);
    int file = open("/dev/null", O_RDONLY); /* something else has that number */
    snprintf(text, sizeof text, "%d", file);
    ck_assert_int_eq(setenv("REDRABBIT_UP_FD", text, 1), 0);
    ck_assert_int_eq(rr_siblings_take(), -1);
    close(file);
}
END_TEST

CHECK_MAIN("siblings", both_ways, died_with_something_unread, nobody_there)
