/* node_frame.h: the bytes that nodes exchange; NODES.md describes them one by one. Pure: no memory is kept, no I/O. Any
 * thread.
 *
 * Decoders trust nothing: whatever the bytes, they read only inside the given size and answer false for what is no such
 * frame. Encoders trust their caller. Everything is little endian. */
#ifndef RR_NET_NODE_FRAME_H
#define RR_NET_NODE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "net/mesh.h"
#include "runtime/remote.h"

/* ---- Frames ------------------------------------------------------------------------------------------------------ */

#define RR_NODE_HEADER    8u
#define RR_NODE_BODY_MAX  (64u << 10) /* of any frame */
#define RR_NODE_HELLO_MAX 512u        /* of a frame before the handshake is over */

typedef enum rr_node_type {
    RR_NODE_HELLO = 1, /* between neighbours: the handshake */
    RR_NODE_CHALLENGE,
    RR_NODE_AUTH,
    RR_NODE_WELCOME,
    RR_NODE_REFUSE,
    RR_NODE_HEARTBEAT, /* between neighbours, later */
    RR_NODE_UNREACHABLE,
    RR_NODE_SEGMENT = 16, /* between end nodes: relays pass them on by `dst` */
    RR_NODE_ACK,
    RR_NODE_OPEN,
    RR_NODE_GONE,
    RR_NODE_LEAVE,
} rr_node_type_t;

enum { RR_NODE_RELAYED = 1 }; /* header flag: a relay has passed it on, no other may */

typedef struct rr_node_header {
    uint32_t size; /* of the body */
    uint8_t type, flags;
    uint16_t dst; /* the end node it is for; 0 = the neighbour */
} rr_node_header_t;

/* ---- Little endian ------------------------------------------------------------------------------------------------
 */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define RR__LE16(v) (v)
#define RR__LE32(v) (v)
#define RR__LE64(v) (v)
#else
#define RR__LE16(v) __builtin_bswap16(v)
#define RR__LE32(v) __builtin_bswap32(v)
#define RR__LE64(v) __builtin_bswap64(v)
#endif

static inline uint16_t rr__get16(const uint8_t *in) {
    uint16_t v;
    memcpy(&v, in, 2);
    return RR__LE16(v);
}
static inline uint32_t rr__get32(const uint8_t *in) {
    uint32_t v;
    memcpy(&v, in, 4);
    return RR__LE32(v);
}
static inline uint64_t rr__get64(const uint8_t *in) {
    uint64_t v;
    memcpy(&v, in, 8);
    return RR__LE64(v);
}
static inline void rr__put16(uint8_t *out, uint16_t v) {
    v = RR__LE16(v);
    memcpy(out, &v, 2);
}
static inline void rr__put32(uint8_t *out, uint32_t v) {
    v = RR__LE32(v);
    memcpy(out, &v, 4);
}
static inline void rr__put64(uint8_t *out, uint64_t v) {
    v = RR__LE64(v);
    memcpy(out, &v, 8);
}

static inline void rr_node_header_put(uint8_t out[RR_NODE_HEADER], uint8_t type, uint8_t flags, unsigned dst,
                                      uint32_t size) {
    rr__put32(out, size);
    out[4] = type;
    out[5] = flags;
    rr__put16(out + 6, (uint16_t)dst);
}

static inline rr_node_header_t rr_node_header_get(const uint8_t in[RR_NODE_HEADER]) {
    return (rr_node_header_t){rr__get32(in), in[4], in[5], rr__get16(in + 6)};
}

/* ---- Handshake ----------------------------------------------------------------------------------------------------
 */

#define RR_NODE_NONCE 32u
#define RR_NODE_PROOF 32u

typedef struct rr_node_hello {
    unsigned protocol;
    bool join; /* asks for a node id */
    uint8_t nonce[RR_NODE_NONCE];
    uint64_t graph; /* 48 bits; 0 = none */
    rr_node_identity_t who;
} rr_node_hello_t;
#define RR_NODE_GRAPH ((1ull << 48) - 1)

/* A whole HELLO or CHALLENGE frame, header included; its size. out: RR_NODE_HEADER + RR_NODE_HELLO_MAX. */
size_t rr_node_hello_encode(uint8_t *out, rr_node_type_t type, const rr_node_hello_t *hello);
/* RR_OK; RR_EPROTO (no such frame, or not our protocol at all); RR_EUNSUPPORTED (another version: only hello->protocol
 * is set). */
RR_MUST_CHECK int rr_node_hello_decode(const uint8_t *body, size_t size, rr_node_hello_t *hello);

/* HMAC-SHA256 over who speaks ('d' = who dialled, 'a' = who accepted), both hello bodies, and (for 'a') the id that is
 * given away. False: out of memory. */
bool rr_node_proof(uint8_t out[RR_NODE_PROOF], const void *key, size_t key_size, char side, const uint8_t *hello,
                   size_t hello_size, const uint8_t *challenge, size_t challenge_size, unsigned given);
bool rr_node_proof_equal(const uint8_t a[RR_NODE_PROOF], const uint8_t b[RR_NODE_PROOF]); /* in constant time */

#define RR_NODE_AUTH_SIZE    (RR_NODE_HEADER + RR_NODE_PROOF)
#define RR_NODE_WELCOME_SIZE (RR_NODE_HEADER + RR_NODE_PROOF + 2u)
#define RR_NODE_WHY_MAX      255u
#define RR_NODE_REFUSE_MAX   (RR_NODE_HEADER + 6u + RR_NODE_WHY_MAX)

size_t rr_node_auth_encode(uint8_t out[RR_NODE_AUTH_SIZE], const uint8_t proof[RR_NODE_PROOF]);
size_t rr_node_welcome_encode(uint8_t out[RR_NODE_WELCOME_SIZE], const uint8_t proof[RR_NODE_PROOF], unsigned given);

typedef struct rr_node_refusal {
    int code;                      /* an rr_error_t */
    bool wait;                     /* no fault: another connection wins, or will soon be possible */
    char why[RR_NODE_WHY_MAX + 1]; /* printable */
} rr_node_refusal_t;
size_t rr_node_refuse_encode(uint8_t out[RR_NODE_REFUSE_MAX], const rr_node_refusal_t *refusal);
bool rr_node_refuse_decode(const uint8_t *body, size_t size, rr_node_refusal_t *out);

/* ---- Between end nodes --------------------------------------------------------------------------------------------
 */

/* Of a frame between end nodes, 16 bits over its type, its `dst` and the `fields` bytes of its body before any records,
 * without their bytes 2 and 3, where it stands. `fields` is a multiple of 4. A spoilt number in such a frame could end a session
 * for ever (an ask or a session that seems later than any to come), and TCP's own checksum lets one in 65,536 pass. Records
 * are not covered. */
uint16_t rr_node_check(uint8_t type, unsigned dst, const uint8_t *body, size_t fields);

/* A session is named by both nodes' incarnations and by how many sessions each had with the other before. */
typedef struct rr_node_session {
    uint64_t incarnation;
    uint32_t number; /* from 1; 0 = not known */
} rr_node_session_t;

/* The name of a session in every segment: the same on both sides. */
uint64_t rr_node_session_tag(unsigned node, rr_node_session_t session, unsigned other_node, rr_node_session_t other);

enum {
    RR_NODE_OPEN_ASK = 1,    /* answer me */
    RR_NODE_OPEN_ANSWER = 2, /* to the ask of that number */
    RR_NODE_OPEN_RESEND = 4, /* send again what follows `received` */
};
typedef struct rr_node_open {
    uint16_t src, flags;
    uint32_t ask;
    rr_node_session_t from, to; /* `to` as far as known */
    uint64_t received;          /* the last segment of `to`'s that is here, in order */
} rr_node_open_t;
#define RR_NODE_OPEN_SIZE (RR_NODE_HEADER + 44u)
size_t rr_node_open_encode(uint8_t out[RR_NODE_OPEN_SIZE], unsigned dst, const rr_node_open_t *open);
/* This and the decoders below: false if it is no such frame, or its check does not fit. */
bool rr_node_open_decode(rr_node_header_t h, const uint8_t *body, rr_node_open_t *out);

/* GONE: the receiver's session is over here. LEAVE: the sender's incarnation ends. UNREACHABLE: a relay has no way to
 * `node`. */
typedef struct rr_node_gone {
    uint16_t src;
    rr_node_session_t session;
} rr_node_gone_t;
#define RR_NODE_GONE_SIZE (RR_NODE_HEADER + 16u)
size_t rr_node_gone_encode(uint8_t out[RR_NODE_GONE_SIZE], rr_node_type_t type, unsigned dst,
                           const rr_node_gone_t *gone);
bool rr_node_gone_decode(rr_node_header_t h, const uint8_t *body, rr_node_gone_t *out);

#define RR_NODE_UNREACHABLE_SIZE (RR_NODE_HEADER + 4u)
size_t rr_node_unreachable_encode(uint8_t out[RR_NODE_UNREACHABLE_SIZE], unsigned node);
bool rr_node_unreachable_decode(const uint8_t *body, size_t size, unsigned *node);

#define RR_NODE_ACK_SIZE (RR_NODE_HEADER + 20u)
typedef struct rr_node_ack {
    uint16_t src;
    uint64_t tag, received;
} rr_node_ack_t;
size_t rr_node_ack_encode(uint8_t out[RR_NODE_ACK_SIZE], unsigned dst, const rr_node_ack_t *ack);
bool rr_node_ack_decode(rr_node_header_t h, const uint8_t *body, rr_node_ack_t *out);

/* ---- Segments -----------------------------------------------------------------------------------------------------
 */

#define RR_NODE_SEGMENT_HEADER 28u /* behind the frame's header */

typedef struct rr_node_segment {
    uint16_t src;
    uint64_t tag, seq, received;
} rr_node_segment_t;

/* Writes both headers of a segment whose records take `records` bytes: RR_NODE_HEADER + RR_NODE_SEGMENT_HEADER bytes.
 */
void rr_node_segment_put(uint8_t *out, unsigned dst, const rr_node_segment_t *segment, uint32_t records);
bool rr_node_segment_get(rr_node_header_t h, const uint8_t *body, rr_node_segment_t *out);

/* A record is one message, or one of these: */
enum {
    RR_RECORD_NACK = 32, /* a send of yours was not delivered; payload: u32 size, i32 reason */
    RR_RECORD_PAUSE,     /* the actor `to` of the sender's node is full */
    RR_RECORD_RESUME,
    RR_RECORD_FRAGMENT, /* more of a message that was cut */
};
enum {                            /* record flags */
       RR_RECORD_SAME = 1,        /* to, from and type as in the record before, and left out */
       RR_RECORD_UNSHEDDABLE = 2, /* as RR_ENVELOPE_UNSHEDDABLE */
       RR_RECORD_NOBODY = 4,      /* from outside any actor */
       RR_RECORD_REQUEST = 8,     /* has a request */
       RR_RECORD_CUT = 16,        /* the first piece of a message of `size` bytes */
       RR_RECORD_FLAGS = 31,
};
#define RR_RECORD_MAX     40u /* a record without its payload */
#define RR_NODE_TRANSFERS 16u /* cut messages under way at once, per link and direction */

typedef struct rr_record {
    uint64_t to, from; /* slot and generation: the lower 48 bits */
    uint64_t request;
    uint32_t type, size;
    uint16_t weight;
    uint8_t kind, flags;
    uint32_t transfer, piece; /* of a cut message: which, and bytes of it here */
} rr_record_t;

#define RR_RECORD_ADDR ((1ull << 48) - 1)

/* Writes a record without its payload; where the payload goes. */
static inline uint8_t *rr_record_put(uint8_t *out, const rr_record_t *r) {
    rr__put64(out, r->kind | (uint32_t)r->flags << 8 | (uint32_t)r->weight << 16 | (uint64_t)r->size << 32);
    out += 8;
    if (!(r->flags & RR_RECORD_SAME)) { /* type 32, to 48, from 48 */
        rr__put64(out, r->type | r->to << 32);
        rr__put64(out + 8, (r->to >> 32 & 0xffff) | r->from << 16);
        out += 16;
    }
    if (r->flags & RR_RECORD_REQUEST) {
        rr__put64(out, r->request);
        out += 8;
    }
    if (r->flags & RR_RECORD_CUT) {
        rr__put32(out, r->transfer);
        rr__put32(out + 4, r->piece);
        out += 8;
    }
    return out;
}

static inline bool rr__record_kind_known(unsigned kind) {
    return (kind <= RR_EXIT && kind != RR_TIMER) || (kind >= RR_KIND_MONITOR && kind <= RR_KIND_UNLINK) ||
           kind == RR_KIND_ANNOUNCE || (kind >= RR_RECORD_NACK && kind <= RR_RECORD_FRAGMENT);
}

/* Reads the record at `in`. *r is that of the record before (zero at first): what is left out stays. Returns where its
 * payload begins, with the number of its bytes here in r->piece; NULL if these are no record, or it does not fit. */
static inline const uint8_t *rr_record_get(const uint8_t *in, const uint8_t *end, rr_record_t *r) {
    if (end - in < 8) {
        return NULL;
    }
    r->kind = in[0];
    r->flags = in[1];
    r->weight = rr__get16(in + 2);
    r->size = rr__get32(in + 4);
    in += 8;
    size_t more = (r->flags & RR_RECORD_SAME ? 0 : 16) + (r->flags & RR_RECORD_REQUEST ? 8 : 0) +
                  (r->flags & RR_RECORD_CUT ? 8 : 0);
    if ((size_t)(end - in) < more || (r->flags & ~RR_RECORD_FLAGS) || !r->weight || !rr__record_kind_known(r->kind)) {
        return NULL;
    }
    if (!(r->flags & RR_RECORD_SAME)) {
        uint64_t low = rr__get64(in), high = rr__get64(in + 8);
        r->type = (uint32_t)low;
        r->to = low >> 32 | (high & 0xffff) << 32;
        r->from = high >> 16;
        in += 16;
    }
    r->request = 0;
    if (r->flags & RR_RECORD_REQUEST) {
        r->request = rr__get64(in);
        in += 8;
    }
    r->piece = r->size;
    if (r->flags & RR_RECORD_CUT) {
        r->transfer = rr__get32(in);
        r->piece = rr__get32(in + 4);
        in += 8;
        if (r->piece == 0 || r->piece >= r->size || r->kind >= RR_RECORD_NACK) {
            return NULL;
        }
    }
    return (size_t)(end - in) >= r->piece ? in : NULL;
}

/* The first four bytes of a record that differs from the one before in nothing but its payload and request; 0: it has no such. */
static inline uint32_t rr_record_again(const rr_record_t *r) {
    unsigned kept = r->flags & (RR_RECORD_UNSHEDDABLE | RR_RECORD_REQUEST);
    bool plain = r->kind <= RR_REPLY && r->weight == 1 && (r->flags & ~RR_RECORD_SAME) == kept;
    return plain ? r->kind | (RR_RECORD_SAME | kept) << 8 | 1u << 16 : 0;
}

/* Reads the record at `in` if it begins so: where its payload begins, its size and request. NULL: it is another one, or malformed. */
static inline const uint8_t *rr_record_get_again(const uint8_t *in, const uint8_t *end, uint32_t again, uint32_t *size,
                                                 uint64_t *request) {
    if (end - in < 16) { /* also of one without payload: rr_record_get reads that */
        return NULL;
    }
    uint64_t head = rr__get64(in);
    if ((uint32_t)head != again) {
        return NULL;
    }
    in += 8;
    *size = (uint32_t)(head >> 32);
    *request = 0;
    if (again & RR_RECORD_REQUEST << 8) {
        *request = rr__get64(in);
        in += 8;
    }
    return (size_t)(end - in) >= *size ? in : NULL;
}

#endif
