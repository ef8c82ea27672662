/* registry_wire.h: what agents and the master's broker say to each other, byte by byte. Private to actors/.
 *
 * Little endian; str = u16 size, bytes. All of it travels as ordinary calls and sends between actors.
 *
 *   HELLO   call  u32 term seen, u64 table, u64 version, u8 flags, identity, str place, u32 n, n x { str name, u64 addr,
 *                 u64 epoch, u8 held (its lease lasts) }                                                       -> STATE
 *   RENEW   call  u32 term seen, u64 table, u64 version, u8 flags, u16 node, u64 incarnation          -> STATE
 *   UPDATE  call  u16 node, u64 incarnation, u32 n, n x { u8 op, str name, u64 addr }
 *                 -> u8 status, str why, u32 n, n x { u8 result, u64 epoch, u64 owner, str owner's node, u32 wait ms }
 *   LEAVE   call  u16 node, u64 incarnation                                                           -> u8 status, str why
 *   CHANGED send  changes
 *   DRAIN   send  to an agent: drain your node; call to the broker: u8 only ask, str node
 *                 -> u8 status, str why, u16 the node's number (OK: it is there, and was told unless only asked)
 *   QUERY   call                                                                                      -> JSON
 *   LINKS   call  to an agent                                                                         -> JSON
 *
 *   STATE    = u8 status, str why, u32 term, u32 lease ms (0xffffffff: for ever), u32 n, n x { str name, u64 addr, u64 epoch,
 *              u64 owner, str owner's node } (names that are not the asker's any more), changes
 *   changes  = u64 table, u64 from, u64 to, u8 whole, u32 n, n x change; change i leads from version from + i to the next;
 *              whole 1: the changes are everything that is, and lead from nothing to version `to`; 2: so far, as nodes
 *              still return to a restarted master: what is known besides stays until change 4
 *   change   = u8 1, u8 status, u64 agent, identity | u8 2, u16 node, u64 incarnation, u8 left (gone) | u8 3, str name, u64 addr
 *              (0: nobody), u64 epoch | u8 4 (everybody who is there has returned)
 *   identity = u16 node, u64 incarnation, u64 service, u8 relay, str name, str address                               */
#ifndef RR_ACTORS_REGISTRY_WIRE_H
#define RR_ACTORS_REGISTRY_WIRE_H

#include "actors/registry.h"

enum {
    RR_REG_HELLO = 0x0240,
    RR_REG_RENEW,
    RR_REG_UPDATE,
    RR_REG_LEAVE,
    RR_REG_CHANGED,
    RR_REG_DRAIN,
    RR_REG_QUERY,
    RR_REG_LINKS,
};
enum { RR_REG_OK = 0, RR_REG_UNKNOWN, RR_REG_STALE };               /* status */
enum { RR_REG_DRAINING = 1 };                                        /* flags */
enum { RR_REG_CLAIM = 1, RR_REG_RELEASE };                           /* op */
enum { RR_REG_GRANTED = 1, RR_REG_REFUSED, RR_REG_WAIT, RR_REG_RELEASED }; /* result */
enum { RR_REG_NODE = 1, RR_REG_NODE_GONE, RR_REG_NAME, RR_REG_SETTLED }; /* change */
enum { RR_REG_CHANGES = 0, RR_REG_WHOLE, RR_REG_SO_FAR };           /* whole */
#define RR_REG_FOR_EVER UINT32_MAX
#define RR_REG_NAME_SIZE 128 /* with its NUL */
#define RR_REG_WHY 256
#define RR_REG_PLACE 96

/* Grows; without memory `failed` stays set and nothing more is written. Zeroed = empty. */
typedef struct rr_reg_out {
    uint8_t *data;
    size_t size, capacity;
    bool failed;
} rr_reg_out_t;
void rr_reg_put8(rr_reg_out_t *out, uint8_t v);
void rr_reg_put16(rr_reg_out_t *out, uint16_t v);
void rr_reg_put32(rr_reg_out_t *out, uint32_t v);
void rr_reg_put64(rr_reg_out_t *out, uint64_t v);
void rr_reg_put_str(rr_reg_out_t *out, const char *text); /* cut at 65,535 */
void rr_reg_put_bytes(rr_reg_out_t *out, const void *data, size_t size);
void rr_reg_put_identity(rr_reg_out_t *out, const rr_node_identity_t *who);
void rr_reg_patch32(rr_reg_out_t *out, size_t at, uint32_t v);
void rr_reg_out_free(rr_reg_out_t *out);

/* Reads; behind the end everything is 0 and `bad` stays set. */
typedef struct rr_reg_in {
    const uint8_t *at, *end;
    bool bad;
} rr_reg_in_t;
rr_reg_in_t rr_reg_in(const void *data, size_t size);
rr_reg_in_t rr_reg_in_of(const rr_message_t *msg);
uint8_t rr_reg_get8(rr_reg_in_t *in);
uint16_t rr_reg_get16(rr_reg_in_t *in);
uint32_t rr_reg_get32(rr_reg_in_t *in);
uint64_t rr_reg_get64(rr_reg_in_t *in);
/* Bad if it does not fit with its NUL, or contains one. */
void rr_reg_get_str(rr_reg_in_t *in, char *out, size_t size);
void rr_reg_get_name(rr_reg_in_t *in, char out[RR_REG_NAME_SIZE]); /* a legal one */
void rr_reg_get_identity(rr_reg_in_t *in, const char *group, rr_node_identity_t *out);

/* "text" as a JSON string; returns out. What is no printable ASCII becomes '?'. */
#define RR_REG_JSON_TEXT 520
const char *rr_reg_json_text(const char *text, char out[RR_REG_JSON_TEXT]);

bool rr_reg_done(const rr_reg_in_t *in); /* all read, nothing bad */

#endif
