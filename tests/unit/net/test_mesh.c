/* The node port: who is let in, what garbage does, joining; peers that come, go and come back. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/node_frame.h"
#include "net/stream.h"
#include "nodes.h"
#include "support.h"

static void options_with_key(rr_mesh_options_t *o, const char *key) {
    node_options(o);
    o->key = key;
    o->key_size = strlen(key);
}

static uint64_t metric(node_t *n, const char *name) {
    rr_buffer_t *text;
    char line[200];
    ck_assert_int_eq(rr_metrics_text(n->system, &text), RR_OK);
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = memmem(rr_buffer_data(text), rr_buffer_size(text), line, strlen(line));
    uint64_t value = at ? strtoull(at + strlen(line), NULL, 10) : 0;
    rr_buffer_unref(text);
    return value;
}

/* ---- Who is let in ---- */

/* Two nodes that must not become friends, in spite of some time. */
static void strangers_stay_apart(const rr_mesh_options_t *one, const rr_mesh_options_t *other) {
    node_t a, b;
    node_start(&a, 1, one);
    node_start(&b, 2, other);
    node_tell(&a, &b, NULL, true);
    node_tell(&b, &a, "", false);
    EVENTUALLY(5000, metric(&a, "rr_mesh_refused_handshakes_total") > 0 &&
                         metric(&b, "rr_mesh_refused_handshakes_total") > 0);
    uint64_t began = now_ns(), before = metric(&a, "rr_mesh_dialled_total");
    pause_ms(500);
    uint64_t dialled = metric(&a, "rr_mesh_dialled_total") - before;
    ck_assert_uint_le(dialled, (now_ns() - began) / 100000000 + 2); /* backoff_max at once, with jitter */
    ck_assert_int_eq(atomic_load(&a.states[RR_LINK_UP]) + atomic_load(&b.states[RR_LINK_UP]), 0);
    node_stop(&a);
    node_stop(&b);
}

START_TEST(a_wrong_key_is_refused) {
    rr_mesh_options_t a, b;
    options_with_key(&a, "right");
    options_with_key(&b, "wrong");
    a.backoff_max_ms = b.backoff_max_ms = 200;
    strangers_stay_apart(&a, &b);
}
END_TEST

START_TEST(no_key_is_a_wrong_key) {
    rr_mesh_options_t a, b;
    node_options(&a);
    options_with_key(&b, "right");
    a.backoff_max_ms = b.backoff_max_ms = 200;
    strangers_stay_apart(&a, &b);
}
END_TEST

START_TEST(another_group_is_refused) {
    rr_mesh_options_t a, b;
    options_with_key(&a, "right");
    b = a;
    strcpy(b.self.group, "other");
    a.backoff_max_ms = b.backoff_max_ms = 200;
    strangers_stay_apart(&a, &b);
}
END_TEST

START_TEST(the_right_key_is_let_in) {
    node_t a, b;
    rr_mesh_options_t o;
    options_with_key(&o, "right");
    node_start(&a, 1, &o);
    node_start(&b, 2, &o);
    node_tell(&a, &b, NULL, true);
    node_tell(&b, &a, "", false);
    EVENTUALLY(5000, node_link(&a, 2).state == RR_LINK_UP && node_link(&b, 1).state == RR_LINK_UP);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

START_TEST(without_a_key_only_loopback_is_bound) {
    rr_system_t *system;
    rr_loop_t *loop;
    rr_options_t options;
    rr_mesh_options_t o;
    rr_mesh_t *mesh;
    char why[300] = "";
    rr_options_init(&options);
    options.log_level = RR_FATAL;
    ck_assert_int_eq(rr_system_create(&system, &options), RR_OK);
    ck_assert_int_eq(rr_loop_create(system, "io", &loop), RR_OK);
    node_options(&o);
    o.listen = "tcp://0.0.0.0:0";
    o.self.node = rr_system_node(system);
    o.self.incarnation = 5;
    ck_assert_int_eq(rr_mesh_create(loop, &o, &mesh, why, sizeof why), RR_EACCES);
    ck_assert_ptr_nonnull(strstr(why, "cluster key"));
    o.listen = "tcp://127.0.0.1:0";
    o.self.node++;
    ck_assert_int_eq(rr_mesh_create(loop, &o, &mesh, why, sizeof why), RR_EINVAL);
    o.self.node--;
    ck_assert_int_eq(rr_mesh_create(loop, &o, &mesh, why, sizeof why), RR_OK); /* a loop that never runs */
    rr_node_identity_t peer = {.node = 9, .incarnation = 3, .address = "tcp://127.0.0.1:1"};
    ck_assert_int_eq(rr_mesh_peer(mesh, &peer, true), RR_OK);
    rr_mesh_leave(mesh, 1000);
    rr_system_stop(system);
    rr_mesh_destroy(mesh);
    rr_system_destroy(system);
}
END_TEST

/* ---- Bytes from anywhere ---- */

static int dial_raw(const node_t *n) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons((uint16_t)atoi(strrchr(n->who.address, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    struct timeval limit = {(time_t)(patience_ns(20000) / 1000000000), 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

/* Reads until the other side closes; the REFUSE frame's code and text if there was one. */
static int read_refusal(int fd, rr_node_refusal_t *refusal) {
    uint8_t data[4096];
    size_t used = 0;
    ssize_t n;
    memset(refusal, 0, sizeof *refusal);
    while ((n = recv(fd, data + used, sizeof data - used, 0)) > 0) {
        used += (size_t)n;
    }
    ck_assert_msg(n == 0 || errno == ECONNRESET, "it was not closed: %s", strerror(errno));
    for (size_t at = 0; at + RR_NODE_HEADER <= used;) {
        rr_node_header_t h = rr_node_header_get(data + at);
        if (h.type == RR_NODE_REFUSE && at + RR_NODE_HEADER + h.size <= used) {
            ck_assert(rr_node_refuse_decode(data + at + RR_NODE_HEADER, h.size, refusal));
        }
        at += RR_NODE_HEADER + h.size;
    }
    close(fd);
    return refusal->code;
}

static void two_friends(node_t *a, node_t *b, const rr_mesh_options_t *o) {
    node_start(a, 1, o);
    node_start(b, 2, o);
    node_tell(a, b, NULL, true);
    node_tell(b, a, NULL, false);
    EVENTUALLY(5000, node_link(a, 2).state == RR_LINK_UP && node_link(b, 1).state == RR_LINK_UP);
}

/* A HELLO with that version. */
static size_t hello_of(uint8_t *out, unsigned version, unsigned node) {
    rr_node_hello_t hello = {.protocol = version};
    hello.who = (rr_node_identity_t){.node = node, .incarnation = 77, .group = "test", .name = "x"};
    return rr_node_hello_encode(out, RR_NODE_HELLO, &hello);
}

START_TEST(garbage_is_refused_and_counted) {
    node_t a, b;
    rr_node_refusal_t refusal;
    uint8_t data[2000];
    two_friends(&a, &b, NULL);
    int fd = dial_raw(&b);
    ck_assert_int_eq(send(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, 0), 27);
    ck_assert_int_eq(read_refusal(fd, &refusal), RR_EPROTO);
    memset(data, 0xff, sizeof data);
    fd = dial_raw(&b);
    ck_assert_int_eq(send(fd, data, sizeof data, 0), sizeof data);
    ck_assert_int_eq(read_refusal(fd, &refusal), RR_EPROTO);
    fd = dial_raw(&b); /* a frame of later, before the handshake */
    rr_node_header_put(data, RR_NODE_SEGMENT, 0, 2, 40);
    memset(data + RR_NODE_HEADER, 0, 40);
    ck_assert_int_eq(send(fd, data, 48, 0), 48);
    ck_assert_int_eq(read_refusal(fd, &refusal), RR_EPROTO);
    fd = dial_raw(&b); /* HELLO twice */
    size_t size = hello_of(data, RR_NODE_PROTOCOL, 9);
    memcpy(data + size, data, size);
    ck_assert_int_eq(send(fd, data, 2 * size, 0), (ssize_t)(2 * size));
    ck_assert_int_eq(read_refusal(fd, &refusal), RR_EPROTO);
    fd = dial_raw(&b); /* no proof */
    size = hello_of(data, RR_NODE_PROTOCOL, 9);
    uint8_t proof[RR_NODE_PROOF] = {1};
    size += rr_node_auth_encode(data + size, proof);
    ck_assert_int_eq(send(fd, data, size, 0), (ssize_t)size);
    ck_assert_int_eq(read_refusal(fd, &refusal), RR_EACCES);
    ck_assert_uint_eq(metric(&b, "rr_mesh_violations_total"), 4);
    ck_assert_uint_eq(metric(&b, "rr_mesh_refused_handshakes_total"), 5);
    ck_assert_int_eq(node_link(&a, 2).state, RR_LINK_UP); /* nobody else was hurt */
    ck_assert_int_eq(atomic_load(&a.states[RR_LINK_UP]), 1);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

START_TEST(another_version_is_told_so) {
    node_t a;
    rr_node_refusal_t refusal;
    uint8_t data[600];
    node_start(&a, 1, NULL);
    int fd = dial_raw(&a);
    size_t size = hello_of(data, RR_NODE_PROTOCOL + 1, 9);
    ck_assert_int_eq(send(fd, data, size, 0), (ssize_t)size);
    ck_assert_int_eq(read_refusal(fd, &refusal), RR_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(refusal.why, "version"));
    node_stop(&a);
}
END_TEST

START_TEST(strangers_are_bounded_in_number_and_time) {
    node_t a, b;
    rr_mesh_options_t o;
    rr_node_refusal_t refusal;
    node_options(&o);
    o.max_strangers = 4;
    o.connect_ms = 400;
    node_start(&a, 1, &o);
    int fds[8];
    for (int i = 0; i < 8; i++) {
        fds[i] = dial_raw(&a);
    }
    EVENTUALLY(5000, metric(&a, "rr_mesh_strangers_dropped_total") == 4);
    uint64_t began = now_ns();
    for (int i = 0; i < 8; i++) {
        read_refusal(fds[i], &refusal); /* all are closed, the silent ones after connect_ms */
    }
    ck_assert_uint_lt(now_ns() - began, patience_ns(4000)); /* of the usual 5 s */
    node_start(&b, 2, &o); /* and friends come in again */
    node_tell(&b, &a, NULL, true);
    node_tell(&a, &b, "", false);
    EVENTUALLY(5000, node_link(&b, 1).state == RR_LINK_UP);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

/* Somebody with the key who breaks the rules: cut, and nobody else is hurt. */
typedef struct impostor {
    int fd;
    uint8_t hello[600], challenge[600];
    size_t hello_size;
} impostor_t;

static rr_node_header_t recv_frame(int fd, uint8_t *body) {
    uint8_t head[RR_NODE_HEADER];
    ck_assert_int_eq(recv(fd, head, sizeof head, MSG_WAITALL), sizeof head);
    rr_node_header_t h = rr_node_header_get(head);
    ck_assert_uint_le(h.size, 600);
    if (h.size) {
        ck_assert_int_eq(recv(fd, body, h.size, MSG_WAITALL), (ssize_t)h.size);
    }
    return h;
}

static void impostor_enter(impostor_t *im, node_t *n, unsigned node) {
    uint8_t frame[RR_NODE_AUTH_SIZE], proof[RR_NODE_PROOF], body[600];
    im->fd = dial_raw(n);
    im->hello_size = hello_of(im->hello, RR_NODE_PROTOCOL, node);
    ck_assert_int_eq(send(im->fd, im->hello, im->hello_size, 0), (ssize_t)im->hello_size);
    rr_node_header_t h = recv_frame(im->fd, im->challenge);
    ck_assert_int_eq(h.type, RR_NODE_CHALLENGE);
    ck_assert(rr_node_proof(proof, "", 0, 'd', im->hello + RR_NODE_HEADER, im->hello_size - RR_NODE_HEADER,
                            im->challenge, h.size, 0));
    ck_assert_int_eq(send(im->fd, frame, rr_node_auth_encode(frame, proof), 0), sizeof frame);
    h = recv_frame(im->fd, body);
    ck_assert_int_eq(h.type, RR_NODE_WELCOME);
}

static void impostor_fails(node_t *n, const uint8_t *frame, size_t size) {
    impostor_t im;
    rr_node_refusal_t refusal;
    impostor_enter(&im, n, 9);
    ck_assert_int_eq(send(im.fd, frame, size, 0), (ssize_t)size);
    ck_assert_int_eq(read_refusal(im.fd, &refusal), RR_EPROTO);
}

START_TEST(a_member_that_breaks_the_protocol_is_cut) {
    node_t a, b;
    uint8_t frame[256] = {0};
    two_friends(&a, &b, NULL);
    rr_node_identity_t nine = {.node = 9, .incarnation = 77, .name = "x"};
    ck_assert_int_eq(rr_mesh_peer(b.mesh, &nine, false), RR_OK);
    rr_node_header_put(frame, RR_NODE_SEGMENT, 0, 2, 100000); /* oversized */
    impostor_fails(&b, frame, sizeof frame);
    rr_node_header_put(frame, 99, 0, 2, 40); /* of no type */
    impostor_fails(&b, frame, 48);
    rr_node_segment_t segment = {1, 5, 1, 0}; /* in another's name */
    rr_node_segment_put(frame, 2, &segment, 0);
    impostor_fails(&b, frame, RR_NODE_HEADER + RR_NODE_SEGMENT_HEADER);
    rr_node_open_t open = {
        .src = 9, .flags = RR_NODE_OPEN_ASK, .ask = 1, .from = {77, 1}, .received = 1000}; /* never sent */
    impostor_fails(&b, frame, rr_node_open_encode(frame, 2, &open));
    rr_node_header_put(frame, RR_NODE_HELLO, 0, 0, 40); /* out of order */
    impostor_fails(&b, frame, 48);
    ck_assert_int_eq(node_link(&a, 2).state, RR_LINK_UP);
    ck_assert_int_eq(atomic_load(&a.states[RR_LINK_UP]), 1);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

/* Whatever bit of the numbers of a frame between end nodes is another, it is no such frame: a link must not believe in an ask or
 * a session that is later than any to come. */
START_TEST(a_spoilt_number_is_noticed) {
    uint8_t frame[4][64];
    rr_node_segment_t segment = {9, 1234, 3, 2};
    rr_node_open_t open = {9, RR_NODE_OPEN_ASK, 7, {77, 1}, {88, 2}, 5};
    rr_node_gone_t gone = {9, {77, 1}};
    rr_node_ack_t ack = {9, 1234, 3};
    rr_node_segment_put(frame[0], 2, &segment, 0);
    (void)rr_node_open_encode(frame[1], 2, &open);
    (void)rr_node_gone_encode(frame[2], RR_NODE_GONE, 2, &gone);
    (void)rr_node_ack_encode(frame[3], 2, &ack);
    for (int i = 0; i < 4; i++) {
        size_t bits = 8 * (RR_NODE_HEADER + rr_node_header_get(frame[i]).size);
        for (size_t bit = 0; bit <= bits; bit++) { /* the last one: as it is */
            uint8_t *at = &frame[i][bit / 8];
            if (bit / 8 == 5)
                continue; /* the header's flags, which relays change */
            *at ^= bit < bits ? (uint8_t)(1 << bit % 8) : 0;
            rr_node_header_t h = rr_node_header_get(frame[i]);
            const uint8_t *body = frame[i] + RR_NODE_HEADER;
            bool good = h.type == RR_NODE_SEGMENT ? rr_node_segment_get(h, body, &segment)
                        : h.type == RR_NODE_OPEN  ? rr_node_open_decode(h, body, &open)
                        : h.type == RR_NODE_ACK   ? rr_node_ack_decode(h, body, &ack)
                                                  : rr_node_gone_decode(h, body, &gone);
            ck_assert_msg(good == (bit == bits) || (bit < 32 && i == 0), "frame %d, bit %zu", i, bit); /* a segment's size is free */
            *at ^= bit < bits ? (uint8_t)(1 << bit % 8) : 0;
        }
    }
}
END_TEST

/* A malformed record inside a good session: that session ends, the sender's node hears that it is over. */
START_TEST(a_malformed_record_ends_only_that_session) {
    node_t a, b;
    uint8_t frame[512] = {0}, body[600];
    two_friends(&a, &b, NULL);
    rr_node_identity_t nine = {.node = 9, .incarnation = 77, .name = "x"};
    ck_assert_int_eq(rr_mesh_peer(b.mesh, &nine, false), RR_OK);
    impostor_t im;
    impostor_enter(&im, &b, 9);
    rr_node_open_t open = {.src = 9, .flags = RR_NODE_OPEN_ASK, .ask = 1, .from = {77, 1}}, answer;
    ck_assert_int_eq(send(im.fd, frame, rr_node_open_encode(frame, 2, &open), 0), RR_NODE_OPEN_SIZE);
    rr_node_header_t h;
    do {
        h = recv_frame(im.fd, body);
    } while (h.type != RR_NODE_OPEN);
    ck_assert(rr_node_open_decode(h, body, &answer));
    ck_assert_int_eq(answer.flags & RR_NODE_OPEN_ANSWER, RR_NODE_OPEN_ANSWER);
    rr_node_segment_t segment = {9, rr_node_session_tag(9, open.from, 2, answer.from), 1, 0};
    rr_node_segment_put(frame, 2, &segment, 20);
    memset(frame + RR_NODE_HEADER + RR_NODE_SEGMENT_HEADER, 0xee, 20);
    ck_assert_int_eq(send(im.fd, frame, RR_NODE_HEADER + RR_NODE_SEGMENT_HEADER + 20, 0),
                     RR_NODE_HEADER + RR_NODE_SEGMENT_HEADER + 20);
    rr_node_refusal_t refusal;
    ck_assert_int_eq(read_refusal(im.fd, &refusal), RR_EPROTO);
    EVENTUALLY(5000, atomic_load(&b.last_state[9]) == RR_LINK_DOWN);
    ck_assert_int_eq(node_link(&a, 2).state, RR_LINK_UP);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

/* ---- Sending again ---- */

/* A session of `im` (node 9) with n, agreed: its tag; *answer is n's. */
static uint64_t impostor_agree(impostor_t *im, node_t *n, unsigned node, rr_node_open_t *answer) {
    uint8_t frame[RR_NODE_OPEN_SIZE], body[600];
    rr_node_open_t open = {.src = 9, .flags = RR_NODE_OPEN_ASK, .ask = 1, .from = {77, 1}};
    impostor_enter(im, n, 9);
    ck_assert_int_eq(send(im->fd, frame, rr_node_open_encode(frame, node, &open), 0), sizeof frame);
    rr_node_header_t h;
    do {
        h = recv_frame(im->fd, body);
    } while (h.type != RR_NODE_OPEN);
    ck_assert(rr_node_open_decode(h, body, answer));
    return rr_node_session_tag(9, open.from, node, answer->from);
}

/* An ask spoilt on its way costs the connection; the next one is answered. */
START_TEST(a_spoilt_ask_is_not_believed) {
    node_t b;
    uint8_t frame[256];
    rr_node_open_t open = {.src = 9, .flags = RR_NODE_OPEN_ASK, .ask = 1, .from = {77, 1}}, answer;
    impostor_t im;
    node_start(&b, 2, NULL);
    rr_node_identity_t nine = {.node = 9, .incarnation = 77, .name = "x"};
    ck_assert_int_eq(rr_mesh_peer(b.mesh, &nine, false), RR_OK);
    for (size_t i = 4; i < 8; i++) { /* the bytes of its number */
        size_t size = rr_node_open_encode(frame, 2, &open);
        frame[RR_NODE_HEADER + i] ^= 0x55;
        impostor_fails(&b, frame, size);
    }
    impostor_agree(&im, &b, 2, &answer);
    close(im.fd);
    node_stop(&b);
}
END_TEST

static void recv_whole(int fd, void *out, size_t size) {
    ck_assert_int_eq(recv(fd, out, size, MSG_WAITALL), (ssize_t)size);
}

/* The next SEGMENT's acknowledgement; 0 and false if an answer to the ask of that number comes first. */
static bool recv_segment(int fd, uint32_t ask, rr_node_segment_t *segment) {
    static uint8_t body[RR_NODE_BODY_MAX];
    for (;;) {
        uint8_t head[RR_NODE_HEADER];
        rr_node_open_t open;
        recv_whole(fd, head, sizeof head);
        rr_node_header_t h = rr_node_header_get(head);
        ck_assert_uint_le(h.size, sizeof body);
        if (h.size) {
            recv_whole(fd, body, h.size);
        }
        if (h.type == RR_NODE_SEGMENT) {
            ck_assert(rr_node_segment_get(h, body, segment));
            return true;
        }
        if (h.type == RR_NODE_OPEN && rr_node_open_decode(h, body, &open) &&
            (open.flags & RR_NODE_OPEN_ANSWER) && open.ask == ask) {
            return false;
        }
    }
}

/* An ask may be overtaken by a later one on another path: its path is used no more, so it is not answered. */
START_TEST(an_ask_that_was_overtaken) {
    static const uint32_t asks[] = {3, 2, 3, 4}, answered[] = {3, 3, 4};
    node_t a;
    impostor_t im;
    rr_node_open_t answer;
    uint8_t frame[RR_NODE_OPEN_SIZE], body[600];
    node_start(&a, 2, NULL);
    rr_node_identity_t nine = {.node = 9, .incarnation = 77, .name = "x"};
    ck_assert_int_eq(rr_mesh_peer(a.mesh, &nine, false), RR_OK);
    impostor_agree(&im, &a, 2, &answer);
    for (size_t i = 0; i < 4; i++) {
        rr_node_open_t open = {.src = 9, .flags = RR_NODE_OPEN_ASK, .ask = asks[i], .from = {77, 1}, .to = answer.from};
        ck_assert_int_eq(send(im.fd, frame, rr_node_open_encode(frame, 2, &open), 0), RR_NODE_OPEN_SIZE);
    }
    for (size_t i = 0; i < 3;) {
        rr_node_header_t h = recv_frame(im.fd, body);
        if (h.type == RR_NODE_OPEN && rr_node_open_decode(h, body, &answer) && answer.flags & RR_NODE_OPEN_ANSWER) {
            ck_assert_uint_eq(answer.ask, answered[i++]);
        }
    }
    close(im.fd);
    node_stop(&a);
}
END_TEST

/* Segments that wait for the kernel are asked for again. What waits keeps its bytes: were they written anew, a copy of which the
 * kernel has a half would acknowledge a mixture of two numbers. */
START_TEST(what_is_queued_stays_as_it_is) {
    enum { SIZE = 8000, AGAIN = 5 };
    node_t a;
    impostor_t im;
    rr_mesh_options_t o;
    rr_node_open_t answer;
    rr_stream_stats_t stats;
    uint8_t data[SIZE] = {1}, frame[RR_NODE_OPEN_SIZE];
    int small = 16 << 10;
    node_options(&o);
    o.window_bytes = 64u << 20;
    o.heartbeat_ms = 5000; /* nothing but segments is written meanwhile */
    o.suspect_ms = 20000;
    o.down_ms = 30000;
    node_start(&a, 2, &o);
    rr_node_identity_t nine = {.node = 9, .incarnation = 77, .name = "x"};
    ck_assert_int_eq(rr_mesh_peer(a.mesh, &nine, false), RR_OK);
    uint64_t tag = impostor_agree(&im, &a, 2, &answer);
    setsockopt(im.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    uint64_t sent = 0, written;
    do { /* one segment each, until more than a few of them wait */
        uint64_t before = node_link(&a, 9).unacked_bytes;
        ck_assert_int_eq(rr_system_send(a.system, (rr_addr_t)9 << 48 | 1 << 24 | 1, 1, data, sizeof data), RR_OK);
        EVENTUALLY(5000, node_link(&a, 9).unacked_bytes > before);
        sent++;
        rr_stream_stats(a.loop, &stats);
        written = stats.written_bytes;
        ck_assert_uint_lt(sent, 5000);
    } while (node_link(&a, 9).unacked_bytes < written + 10 * SIZE);
    for (uint64_t seq = 1; seq <= 3; seq++) { /* of ours, without records: now it has something to acknowledge */
        rr_node_segment_t segment = {9, tag, seq, 0};
        rr_node_segment_put(frame, 2, &segment, 0);
        ssize_t size = RR_NODE_HEADER + RR_NODE_SEGMENT_HEADER;
        ck_assert_int_eq(send(im.fd, frame, (size_t)size, 0), size);
    }
    rr_node_open_t again = {.src = 9,
                            .flags = RR_NODE_OPEN_ASK | RR_NODE_OPEN_RESEND,
                            .ask = 2,
                            .from = {77, 1},
                            .to = answer.from,
                            .received = sent - AGAIN};
    ck_assert_int_eq(send(im.fd, frame, rr_node_open_encode(frame, 2, &again), 0), RR_NODE_OPEN_SIZE);
    EVENTUALLY(5000, node_link(&a, 9).resent_segments == AGAIN);
    pause_ms(50); /* it would be written anew at the end of that loop turn */
    rr_node_segment_t segment;
    uint64_t next = 1;
    for (; recv_segment(im.fd, 2, &segment); next++) {
        ck_assert_uint_eq(segment.seq, next);
        ck_assert_uint_eq(segment.received, 0);
    }
    ck_assert_uint_eq(next, sent + 1);
    for (next = sent - AGAIN + 1; next <= sent; next++) {
        ck_assert(recv_segment(im.fd, 2, &segment));
        ck_assert_uint_eq(segment.seq, next);
    }
    close(im.fd);
    node_stop(&a);
}
END_TEST

/* ---- Graphs ---- */

START_TEST(another_graph_is_counted_once) {
    static const uint64_t graphs[][2] = {{5, 6}, {5, 5}, {5, 0}, {5, 5 | 1ull << 48}};
    for (size_t i = 0; i < 4; i++) {
        node_t a, b;
        rr_mesh_options_t o;
        node_options(&o);
        o.graph = graphs[i][0];
        node_start(&a, 1, &o);
        o.graph = graphs[i][1];
        node_start(&b, 2, &o);
        node_tell(&a, &b, NULL, true);
        node_tell(&b, &a, NULL, false);
        EVENTUALLY(5000, node_link(&a, 2).state == RR_LINK_UP && node_link(&b, 1).state == RR_LINK_UP);
        ck_assert_uint_eq(metric(&a, "rr_mesh_graphs_differ_total"), i == 0);
        ck_assert_uint_eq(metric(&b, "rr_mesh_graphs_differ_total"), i == 0);
        node_stop(&a);
        node_stop(&b);
    }
}
END_TEST

/* ---- Joining ---- */

static int give_id(void *context, rr_node_identity_t *who, rr_node_identity_t *master, char *why, size_t why_size) {
    (void)context;
    (void)master;
    if (!strcmp(who->name, "taken")) {
        snprintf(why, why_size, "a node named 'taken' is alive");
        return RR_EEXIST;
    }
    who->node = 42;
    return RR_OK;
}

static int take_anybody(void *context, const rr_node_identity_t *who, char *why, size_t why_size) {
    (void)context;
    (void)why;
    (void)why_size;
    return who->node == 42 ? RR_OK : RR_ENOENT;
}

static rr_node_identity_t joiner(const char *group, const char *name) {
    rr_node_identity_t self = {.incarnation = 99};
    strcpy(self.group, group);
    strcpy(self.name, name);
    return self;
}

START_TEST(a_node_joins_and_links) {
    node_t master, b;
    rr_mesh_options_t o;
    rr_mesh_handler_t handler = {.join = give_id, .unknown = take_anybody};
    char why[400];
    options_with_key(&o, "secret");
    o.handler = &handler;
    node_start(&master, 1, &o);
    rr_node_identity_t self = joiner("test", "n42"), told;
    int rc = rr_node_join(master.who.address, "secret", 6, &self, &told, 5000, why, sizeof why);
    ck_assert_msg(rc == RR_OK, "%s", why);
    ck_assert_uint_eq(self.node, 42);
    ck_assert_uint_eq(told.node, 1);
    ck_assert_uint_eq(told.incarnation, master.who.incarnation);
    o.handler = NULL;
    node_start(&b, 42, &o); /* the master was not told of it, and asks its handler */
    rr_node_identity_t peer = master.who;
    ck_assert_int_eq(rr_mesh_peer(b.mesh, &peer, true), RR_OK);
    EVENTUALLY(5000, node_link(&b, 1).state == RR_LINK_UP && node_link(&master, 42).state == RR_LINK_UP);
    node_stop(&b);
    node_stop(&master);
}
END_TEST

START_TEST(a_join_that_fails_says_why) {
    node_t master, plain;
    rr_mesh_options_t o;
    rr_mesh_handler_t handler = {.join = give_id};
    char why[400];
    options_with_key(&o, "secret");
    o.handler = &handler;
    node_start(&master, 1, &o);
    rr_node_identity_t self = joiner("test", "x"), told;
    ck_assert_int_eq(rr_node_join(master.who.address, "wrong", 5, &self, &told, 5000, why, sizeof why), RR_EACCES);
    ck_assert_ptr_nonnull(strstr(why, "key"));
    self = joiner("other", "x");
    ck_assert_int_eq(rr_node_join(master.who.address, "secret", 6, &self, &told, 5000, why, sizeof why), RR_EREFUSED);
    ck_assert_ptr_nonnull(strstr(why, "other"));
    self = joiner("test", "taken");
    ck_assert_int_eq(rr_node_join(master.who.address, "secret", 6, &self, &told, 5000, why, sizeof why), RR_EREFUSED);
    ck_assert_ptr_nonnull(strstr(why, "taken"));
    node_start(&plain, 2, NULL);
    self = joiner("test", "x");
    ck_assert_int_eq(rr_node_join(plain.who.address, NULL, 0, &self, &told, 5000, why, sizeof why), RR_EREFUSED);
    ck_assert_ptr_nonnull(strstr(why, "no node ids"));
    char closed[300];
    snprintf(closed, sizeof closed, "%s", plain.who.address);
    node_stop(&plain);
    ck_assert_int_eq(rr_node_join(closed, NULL, 0, &self, &told, 5000, why, sizeof why), RR_EIO);
    ck_assert_int_eq(rr_node_join("nonsense", NULL, 0, &self, &told, 5000, why, sizeof why), RR_EINVAL);
    ck_assert_int_eq(rr_node_join("tcp://192.0.2.1:1", NULL, 0, &self, &told, 5000, why, sizeof why), RR_EACCES);
    int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    ck_assert_int_eq(bind(silent, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert_int_eq(listen(silent, 1), 0);
    ck_assert_int_eq(getsockname(silent, (struct sockaddr *)&at, &size), 0);
    snprintf(closed, sizeof closed, "tcp://127.0.0.1:%u", ntohs(at.sin_port));
    ck_assert_int_eq(rr_node_join(closed, NULL, 0, &self, &told, 200, why, sizeof why), RR_TIMEOUT);
    close(silent);
    node_stop(&master);
}
END_TEST

/* ---- Peers that come back ---- */

START_TEST(another_incarnation_is_another_session) {
    node_t a, b;
    sink_t sink = {0};
    two_friends(&a, &b, NULL);
    node_stop(&b);
    node_start(&b, 2, NULL);
    node_tell(&b, &a, NULL, false);
    node_tell(&a, &b, NULL, true); /* the same id, another process: told before silence says so */
    EVENTUALLY(1000, atomic_load(&a.states[RR_LINK_DOWN]) == 1);
    source_t s = {.to = sink_spawn(&b, &sink, 0), .sender = 1, .count = 100, .size = 20, .burst = 10};
    source_spawn(&a, &s);
    EVENTUALLY(5000, atomic_load(&sink.received) == 100);
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

/* Somebody else lives where a dead node did: whoever still dials there does not lose the connection that it has with them. */
START_TEST(an_address_that_belongs_to_another_now) {
    node_t a, b;
    node_start(&a, 1, NULL);
    node_start(&b, 2, NULL);
    node_tell(&a, &b, NULL, true);
    node_tell(&b, &a, NULL, false);
    EVENTUALLY(5000, node_link(&a, 2).state == RR_LINK_UP && node_link(&b, 1).state == RR_LINK_UP);
    rr_node_identity_t dead = {.node = 9, .incarnation = 77, .name = "dead"};
    snprintf(dead.address, sizeof dead.address, "%s", b.who.address);
    uint64_t before = metric(&a, "rr_mesh_dialled_total"), reconnects = node_link(&a, 2).reconnects;
    ck_assert_int_eq(rr_mesh_peer(a.mesh, &dead, true), RR_OK);
    EVENTUALLY(5000, metric(&a, "rr_mesh_dialled_total") >= before + 5);
    ck_assert_uint_eq(node_link(&a, 2).reconnects, reconnects);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

START_TEST(crossed_dials_end_with_one_connection) {
    for (int round = 0; round < 20; round++) {
        node_t a, b;
        node_start(&a, 1, NULL);
        node_start(&b, 2, NULL);
        node_tell(&a, &b, NULL, true);
        node_tell(&b, &a, NULL, true);
        EVENTUALLY(5000, node_link(&a, 2).state == RR_LINK_UP && node_link(&b, 1).state == RR_LINK_UP);
        pause_ms(20);
        rr_stream_stats_t stats;
        EVENTUALLY(5000, (rr_stream_stats(a.loop, &stats), stats.open == 1));
        EVENTUALLY(5000, node_link(&a, 2).state == RR_LINK_UP && node_link(&b, 1).state == RR_LINK_UP);
        ck_assert_int_eq(atomic_load(&a.states[RR_LINK_DOWN]) + atomic_load(&b.states[RR_LINK_DOWN]), 0);
        node_stop(&a);
        node_stop(&b);
    }
}
END_TEST

START_TEST(forgotten_and_told_of_at_once) {
    node_t a, b;
    node_start(&a, 1, NULL);
    node_start(&b, 2, NULL);
    node_tell(&b, &a, "", false);
    node_tell(&a, &b, NULL, true);
    for (unsigned i = 0; i < 20; i++) {
        EVENTUALLY(5000, node_link(&a, 2).state == RR_LINK_UP);
        int ups = atomic_load(&a.states[RR_LINK_UP]), downs = atomic_load(&a.states[RR_LINK_DOWN]);
        rr_mesh_forget(a.mesh, 2, b.who.incarnation);
        node_tell(&a, &b, NULL, true); /* while the earlier link still ends: gets one of its own */
        EVENTUALLY(5000, atomic_load(&a.states[RR_LINK_UP]) > ups);
        ck_assert_int_eq(atomic_load(&a.states[RR_LINK_DOWN]), downs + 1);
        ck_assert_uint_ne(rr_route(a.system, 2), RR_NOBODY);
    }
    EVENTUALLY(5000, rr_mesh_list(a.mesh, NULL, 0) == 1);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

/* Also by those that it never spoke to: through a relay. What they send there ends at once. */
START_TEST(who_leaves_is_heard_by_all) {
    node_t relay, a, b;
    rr_mesh_options_t o;
    node_options(&o);
    o.self.relay = true;
    node_start(&relay, 1, &o);
    node_start(&a, 2, NULL);
    node_start(&b, 3, NULL);
    node_tell(&relay, &a, "", false);
    node_tell(&relay, &b, "", false);
    node_tell(&a, &relay, NULL, true);
    node_tell(&b, &relay, NULL, true);
    node_tell(&a, &b, "", false);
    node_tell(&b, &a, "", false);
    EVENTUALLY(5000, node_link(&a, 1).state == RR_LINK_UP && node_link(&b, 1).state == RR_LINK_UP);
    rr_mesh_leave(b.mesh, 1000);
    EVENTUALLY(5000, atomic_load(&a.last_state[3]) == RR_LINK_DOWN);
    ck_assert_int_eq(atomic_load(&a.states[RR_LINK_UP]), 1); /* the relay's only */
    ck_assert_int_eq(rr_system_send(a.system, (rr_addr_t)3 << 48 | 77 << 24 | 5, 7, NULL, 0), RR_NOROUTE);
    node_stop(&b);
    node_stop(&a);
    node_stop(&relay);
}
END_TEST

START_TEST(peers_are_bounded) {
    node_t a;
    rr_mesh_options_t o;
    node_options(&o);
    o.max_peers = 3;
    node_start(&a, 1, &o);
    for (unsigned i = 0; i < 5; i++) {
        rr_node_identity_t peer = {.node = 10 + i, .incarnation = 1};
        ck_assert_int_eq(rr_mesh_peer(a.mesh, &peer, false), i < 3 ? RR_OK : RR_ELIMIT);
    }
    rr_mesh_forget(a.mesh, 10, 1);
    rr_node_identity_t peer = {.node = 20, .incarnation = 1};
    EVENTUALLY(5000, rr_mesh_peer(a.mesh, &peer, false) == RR_OK);
    ck_assert_int_eq(rr_mesh_peer(a.mesh, &(rr_node_identity_t){.node = 0, .incarnation = 1}, false), RR_EINVAL);
    ck_assert_int_eq(rr_mesh_peer(a.mesh, &(rr_node_identity_t){.node = 1, .incarnation = 1}, false), RR_EINVAL);
    ck_assert_int_eq(rr_mesh_peer(a.mesh, &(rr_node_identity_t){.node = 5}, false), RR_EINVAL);
    node_stop(&a);
}
END_TEST

RUN_TESTS("mesh", a_wrong_key_is_refused, no_key_is_a_wrong_key, another_group_is_refused, the_right_key_is_let_in,
          without_a_key_only_loopback_is_bound, garbage_is_refused_and_counted, another_version_is_told_so,
          strangers_are_bounded_in_number_and_time, a_member_that_breaks_the_protocol_is_cut,
          a_malformed_record_ends_only_that_session, a_spoilt_number_is_noticed,
          a_spoilt_ask_is_not_believed, an_ask_that_was_overtaken, what_is_queued_stays_as_it_is, another_graph_is_counted_once,
          a_node_joins_and_links, a_join_that_fails_says_why, another_incarnation_is_another_session,
          crossed_dials_end_with_one_connection, an_address_that_belongs_to_another_now, forgotten_and_told_of_at_once,
          who_leaves_is_heard_by_all, peers_are_bounded)
