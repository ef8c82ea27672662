/* broker.h: who has which name, and where. One broker per node; here it is the registry and look-up of this process.
 * Links to other nodes come later: what the others see of it, the messages below, stays.
 *
 * A name is granted to one live actor at a time. Each grant has an epoch, greater than every one before it: whoever
 * keeps the highest epoch per name can refuse what a former owner still says. The broker monitors owners: a name falls
 * free when its owner ends or releases it. Subscribers hear every change in order, after a snapshot of what is. */
#ifndef RR_ACTORS_BROKER_H
#define RR_ACTORS_BROKER_H

#include "runtime/redrabbit.h"

typedef struct rr_broker_options {
    const char *name;         /* "broker@0" */
    unsigned max_names;       /* 65,536; over it RR_ELIMIT */
    unsigned max_subscribers; /* 4,096 */
} rr_broker_options_t;

void rr_broker_options_init(rr_broker_options_t *options);

/* Spawns the broker (under options->name, on the core workers). options are copied. Errors as rr_system_spawn. */
RR_MUST_CHECK int rr_broker_spawn(rr_system_t *system, const rr_broker_options_t *options, rr_addr_t *out);

/* ---- Its messages: type, payload, answer ---- */

enum {
    RR_BROKER_REGISTER = 0x0200, /* call: rr_broker_entry_t (address 0 = the caller) -> the entry with its epoch;
                                    EEXIST's error text if another live actor has the name */
    RR_BROKER_RELEASE,           /* call: rr_broker_entry_t: by its owner; empty answer, error if it is not the owner */
    RR_BROKER_LOOKUP,            /* call: rr_broker_entry_t (name) -> the entry; address 0 if there is none */
    RR_BROKER_SUBSCRIBE,         /* send: the sender gets RR_BROKER_CHANGE for all that is, then for every change */
    RR_BROKER_UNSUBSCRIBE,       /* send */
    RR_BROKER_CHANGE,            /* send, to subscribers: rr_broker_entry_t; address 0 = the name fell free */
};

#define RR_NAME_MAX 127
typedef struct rr_broker_entry {
    uint64_t address;
    uint64_t epoch;
    uint32_t name_size;
    char name[RR_NAME_MAX + 1]; /* NUL-terminated */
} rr_broker_entry_t;

/* ---- For actors ---- */

/* Makes an entry; RR_EINVAL if the name is not legal. */
RR_MUST_CHECK int rr_broker_entry(const char *name, rr_addr_t address, rr_broker_entry_t *out);
/* Reads one out of a message or reply; RR_EPROTO. */
RR_MUST_CHECK int rr_broker_entry_of(const rr_message_t *msg, rr_broker_entry_t *out);

#endif
