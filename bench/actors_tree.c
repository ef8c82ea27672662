/* tree: the "skynet" benchmark (github.com/atemerev/skynet): an actor spawns ten, those ten each …, down to the leaves,
 * which send their number up; each adds its children's sums. The root's sum is known. */
#include "bench/actors.h"

#define CHILDREN 10u

typedef struct tree {
    actors_run_t run;
    uint64_t sum;
} tree_t;

typedef struct node {
    tree_t *tree;
    rr_addr_t parent;
    uint64_t number, leaves, sum;
    uint32_t missing;
} node_t;

static int start(rr_actor_t *self, void *state, const void *arg);
static void receive(rr_actor_t *self, void *state, rr_message_t *msg);
static const rr_behavior_t behavior = {.name = "node", .state_size = sizeof(node_t), .start = start, .receive = receive};

static void finish_node(rr_actor_t *self, node_t *n, uint64_t sum) {
    if (n->parent == RR_NOBODY) {
        n->tree->sum = sum;
        actors_clock_stop(&n->tree->run);
        actors_done(&n->tree->run);
    } else {
        actors_sent(&n->tree->run, rr_send(self, n->parent, 0, &sum, sizeof sum));
    }
    rr_exit(self, RR_OK);
}

static void spawn_children(rr_actor_t *self, node_t *n) {
    node_t child = {.tree = n->tree, .parent = rr_self(self), .leaves = n->leaves / CHILDREN};
    rr_spawn_t spec = {.behavior = &behavior, .arg = &child, .arg_size = sizeof child};
    for (unsigned i = 0; i < CHILDREN; i++) {
        child.number = n->number + i * child.leaves;
        actors_sent(&n->tree->run, rr_spawn(self, &spec, NULL));
    }
    n->missing = CHILDREN;
}

static int start(rr_actor_t *self, void *state, const void *arg) {
    node_t *n = state;
    *n = *(const node_t *)arg;
    if (n->leaves == 1)
        finish_node(self, n, n->number);
    else
        spawn_children(self, n);
    return RR_OK;
}

static void receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    node_t *n = state;
    n->sum += *(const uint64_t *)rr_message_data(msg);
    if (--n->missing == 0)
        finish_node(self, n, n->sum);
}

void actors_tree(const actors_params_t *p, bench_run_t *out) {
    tree_t t = {0};
    for (uint64_t n = p->leaves; n != 1; n /= CHILDREN)
        if (n % CHILDREN)
            bench_die("tree: --leaves must be a power of ten");
    actors_begin(&t.run, p, out, 1);
    t.run.memory_matters = true;
    node_t root = {.tree = &t, .leaves = p->leaves};
    rr_spawn_t spec = {.behavior = &behavior, .arg = &root, .arg_size = sizeof root};
    actors_clock_start(&t.run);
    actors_spawn_spec(&t.run, &spec);
    if (actors_wait(&t.run, 60)) {
        if (t.sum != p->leaves * (p->leaves - 1) / 2)
            bench_fail(out, "the sum is %llu", (unsigned long long)t.sum);
        bench_metric(out, "time", "ms", BENCH_LOWER, actors_seconds(&t.run) * 1000);
    }
    actors_end(&t.run);
}
