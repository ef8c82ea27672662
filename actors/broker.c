/* broker.c: the names of this process and their owners. */
#include "actors/broker.h"

#include <stdlib.h>
#include <string.h>

#include "actors/map.h"
#include "runtime/hash.h"

typedef struct name_entry {
    rr_broker_entry_t entry;
    uint64_t monitor;
} name_entry_t;

typedef struct subscriber {
    rr_addr_t addr;
    uint64_t monitor;
} subscriber_t;

typedef struct broker {
    rr_broker_options_t options;
    uint64_t epoch;
    rr_set_t names;
    rr_map_t monitors; /* id -> name_entry_t; subscribers with the low bit set */
    rr_map_t subscribers;
} broker_t;

void rr_broker_options_init(rr_broker_options_t *options) {
    *options = (rr_broker_options_t){.name = "broker@0", .max_names = 65536, .max_subscribers = 4096};
}

/* ---- Entries ---- */

int rr_broker_entry(const char *name, rr_addr_t address, rr_broker_entry_t *out) {
    if (!rr_name_legal(name))
        return RR_EINVAL;
    memset(out, 0, sizeof(*out));
    out->address = address;
    out->name_size = (uint32_t)strlen(name);
    memcpy(out->name, name, out->name_size);
    return RR_OK;
}

int rr_broker_entry_of(const rr_message_t *msg, rr_broker_entry_t *out) {
    if (rr_message_size(msg) != sizeof(*out))
        return RR_EPROTO;
    memcpy(out, rr_message_data(msg), sizeof(*out));
    bool sound = out->name_size <= RR_NAME_MAX && strnlen(out->name, sizeof(out->name)) == out->name_size &&
                 rr_name_legal(out->name);
    return sound ? RR_OK : RR_EPROTO;
}

static bool has_name(const void *item, const void *key) {
    return !strcmp(((const name_entry_t *)item)->entry.name, key);
}

static name_entry_t *find(broker_t *broker, const char *name) {
    return rr_set_find(&broker->names, rr_hash_text(name), has_name, name);
}

/* ---- Telling subscribers ---- */

static void tell(rr_actor_t *self, rr_addr_t to, const rr_broker_entry_t *entry) {
    int rc = rr_send(self, to, RR_BROKER_CHANGE, entry, sizeof(*entry));
    if (rc == RR_EFULL ||
        rc == RR_ENOMEM) /* it has missed a change: it must subscribe anew, and learns that by a call failing */
        rr_log(rr_system_of(self), RR_WARN, "BROKER", "a subscriber of %s misses a change: %s", entry->name,
               rr_strerror(rc));
}

static void publish(rr_actor_t *self, broker_t *broker, const rr_broker_entry_t *entry) {
    for (uint32_t i = 0; broker->subscribers.cells && i <= broker->subscribers.mask; i++)
        if (broker->subscribers.cells[i].key)
            tell(self, broker->subscribers.cells[i].key, entry);
}

static void drop_name(rr_actor_t *self, broker_t *broker, name_entry_t *item) {
    rr_broker_entry_t gone = item->entry;
    gone.address = RR_NOBODY;
    rr_set_remove(&broker->names, rr_hash_text(item->entry.name), item);
    rr_map_take(&broker->monitors, item->monitor);
    rr_demonitor(self, item->monitor);
    free(item);
    publish(self, broker, &gone);
}

/* ---- Calls ---- */

static int add_name(rr_actor_t *self, broker_t *broker, rr_broker_entry_t *entry) {
    if (broker->names.count >= broker->options.max_names)
        return RR_ELIMIT;
    name_entry_t *item = malloc(sizeof(*item));
    if (!item || rr_monitor(self, entry->address, &item->monitor) != RR_OK) {
        free(item);
        return RR_ENOMEM;
    }
    if (!rr_map_put(&broker->monitors, item->monitor, item) ||
        !rr_set_add(&broker->names, rr_hash_text(entry->name), item)) {
        rr_map_take(&broker->monitors, item->monitor);
        rr_demonitor(self, item->monitor);
        free(item);
        return RR_ENOMEM;
    }
    entry->epoch = ++broker->epoch;
    item->entry = *entry;
    return RR_OK;
}

static void on_register(rr_actor_t *self, broker_t *broker, rr_message_t *msg, rr_broker_entry_t *entry) {
    if (entry->address == RR_NOBODY)
        entry->address = rr_message_from(msg);
    name_entry_t *owner = find(broker, entry->name);
    int rc = owner && owner->entry.address != entry->address ? RR_EEXIST : RR_OK;
    if (rc == RR_OK && owner)
        *entry = owner->entry; /* it has it already */
    else if (rc == RR_OK)
        rc = add_name(self, broker, entry);
    if (rc != RR_OK) {
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(rc));
        return;
    }
    rr_reply(self, msg, entry, sizeof(*entry));
    if (!owner)
        publish(self, broker, entry);
}

static void on_release(rr_actor_t *self, broker_t *broker, rr_message_t *msg, const rr_broker_entry_t *entry) {
    name_entry_t *owner = find(broker, entry->name);
    rr_addr_t from = rr_message_from(msg);
    if (!owner || (owner->entry.address != from && owner->entry.address != entry->address)) {
        rr_reply_error(self, msg, RR_EHANDLER, "not the owner of that name");
        return;
    }
    rr_reply(self, msg, NULL, 0);
    drop_name(self, broker, owner);
}

static void on_lookup(rr_actor_t *self, broker_t *broker, rr_message_t *msg, rr_broker_entry_t *entry) {
    name_entry_t *owner = find(broker, entry->name);
    entry->address = RR_NOBODY;
    entry->epoch = 0;
    rr_reply(self, msg, owner ? &owner->entry : entry, sizeof(*entry));
}

static void on_subscribe(rr_actor_t *self, broker_t *broker, rr_addr_t who) {
    uint64_t monitor;
    if (who == RR_NOBODY || rr_map_get(&broker->subscribers, who))
        return;
    if (broker->subscribers.count >= broker->options.max_subscribers || rr_monitor(self, who, &monitor) != RR_OK) {
        rr_log(rr_system_of(self), RR_WARN, "BROKER", "a subscriber is refused: there are %u already",
               broker->subscribers.count);
        return;
    }
    subscriber_t *item = malloc(sizeof(*item));
    if (!item || !rr_map_put(&broker->monitors, monitor, (char *)item + 1) ||
        !rr_map_put(&broker->subscribers, who, item)) {
        rr_map_take(&broker->monitors, monitor);
        rr_demonitor(self, monitor);
        free(item);
        return;
    }
    *item = (subscriber_t){who, monitor};
    for (uint32_t i = 0; broker->names.cells && i <= broker->names.mask; i++)
        if (broker->names.cells[i].item)
            tell(self, who, &((name_entry_t *)broker->names.cells[i].item)->entry);
}

static void on_unsubscribe(rr_actor_t *self, broker_t *broker, rr_addr_t who) {
    subscriber_t *item = rr_map_take(&broker->subscribers, who);
    if (!item)
        return;
    rr_map_take(&broker->monitors, item->monitor);
    rr_demonitor(self, item->monitor);
    free(item);
}

static void on_down(rr_actor_t *self, broker_t *broker, rr_message_t *msg) {
    char *tagged = rr_map_get(&broker->monitors, rr_message_request(msg));
    if (tagged && (uintptr_t)tagged & 1)
        on_unsubscribe(self, broker, ((subscriber_t *)(tagged - 1))->addr);
    else if (tagged)
        drop_name(self, broker, (name_entry_t *)tagged);
}

static void on_call(rr_actor_t *self, broker_t *broker, rr_message_t *msg) {
    rr_broker_entry_t entry;
    if (rr_broker_entry_of(msg, &entry) != RR_OK) {
        rr_reply_error(self, msg, RR_EHANDLER, "not a legal name");
        return;
    }
    switch (rr_message_type(msg)) {
    case RR_BROKER_REGISTER:
        on_register(self, broker, msg, &entry);
        break;
    case RR_BROKER_RELEASE:
        on_release(self, broker, msg, &entry);
        break;
    case RR_BROKER_LOOKUP:
        on_lookup(self, broker, msg, &entry);
        break;
    default:
        rr_reply_error(self, msg, RR_EHANDLER, "a broker does not know this kind of call");
    }
}

/* ---- The actor ---- */

static int broker_start(rr_actor_t *self, void *state, const void *arg) {
    ((broker_t *)state)->options = *(const rr_broker_options_t *)arg;
    return RR_OK;
}

static void broker_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    switch (rr_message_kind(msg)) {
    case RR_CALL:
        on_call(self, state, msg);
        break;
    case RR_DOWN:
        on_down(self, state, msg);
        break;
    case RR_SEND:
        if (rr_message_type(msg) == RR_BROKER_SUBSCRIBE)
            on_subscribe(self, state, rr_message_from(msg));
        else if (rr_message_type(msg) == RR_BROKER_UNSUBSCRIBE)
            on_unsubscribe(self, state, rr_message_from(msg));
        break;
    default:
        break;
    }
}

static void broker_finish(rr_actor_t *self, void *state, int reason) {
    broker_t *broker = state;
    for (uint32_t i = 0; broker->names.cells && i <= broker->names.mask; i++)
        free(broker->names.cells[i].item);
    for (uint32_t i = 0; broker->subscribers.cells && i <= broker->subscribers.mask; i++)
        free(broker->subscribers.cells[i].value);
    rr_set_free(&broker->names);
    rr_map_free(&broker->monitors);
    rr_map_free(&broker->subscribers);
}

static const rr_behavior_t broker_behavior = {
    .name = "broker",
    .state_size = sizeof(broker_t),
    .start = broker_start,
    .receive = broker_receive,
    .finish = broker_finish,
};

int rr_broker_spawn(rr_system_t *system, const rr_broker_options_t *options, rr_addr_t *out) {
    rr_spawn_t spec = {
        .behavior = &broker_behavior, .arg = options, .arg_size = sizeof(*options), .name = options->name};
    return rr_system_spawn(system, &spec, out);
}
