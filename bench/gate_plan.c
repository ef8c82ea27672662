/* Running a gate workload several times, with the floor in turn, against a server of our own or of the user's. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/address.h"
#include "bench/floor.h"
#include "bench/floor_server.h"
#include "bench/gate.h"

static const gate_workload_t workloads[] = {
    {"echo", "every message comes back; closed loop, or paced with --rate", gate_echo},
    {"broadcast", "one asks, all connections get it", gate_broadcast},
    {"multicast", "the same, to a list of all of them", gate_multicast},
    {"rooms", "a message goes to the 20 of its sender's room (--room); all clients talk, rooms are the\n               server's: client n's is n / 20", gate_rooms},
    {"connect", "connect, log in, one message, reset; again", gate_connect},
    {"idle", "memory and CPU of connections that say nothing (rss_per_connection: what those after\n               the first tenth add; rss_per_connection_all: all)", gate_idle},
    {"chat", "clients with think time, echoes and broadcasts; or your own --scenario FILE", gate_chat},
};

const gate_workload_t *gate_find(const char *name) {
    for (unsigned i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (strcmp(workloads[i].name, name) == 0)
            return &workloads[i];
    return NULL;
}

void gate_workloads_help(void) {
    for (unsigned i = 0; i < sizeof workloads / sizeof *workloads; i++)
        printf("  %-12s %s\n", workloads[i].name, workloads[i].summary);
}

void gate_plan_init(gate_plan_t *plan) {
    *plan = (gate_plan_t){.runs = 3, .server_cpu = -1};
    plan->params = (gate_params_t){.connections = 50, .outstanding = 16, .size = 64, .duration = 3, .warmup = 0.5,
                                   .cmd = FLOOR_CMD_ECHO, .reply_cmd = FLOOR_CMD_ECHO,
                                   .broadcast_cmd = FLOOR_CMD_BROADCAST, .multicast_cmd = 4,
                                   .room_cmd = FLOOR_CMD_ROOM, .room = 20, .connecting = 64,
                                   .login = "bench-{pid}-{n}", .ready = "echo", .cpu = -1};
}

static pid_t start_server(const gate_plan_t *plan) {
    char room[24];
    snprintf(room, sizeof room, "%llu", (unsigned long long)plan->params.room);
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        bench_die("fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            _exit(1);
        setpgid(0, 0);
        bench_pin(plan->server_cpu);
        dup2(2, 1); /* our standard output may be JSON */
        if (setenv("RR_BENCH_ROOM", room, 1) == 0) /* scenes/lists.py: its rooms are what this run takes for rooms */
            execl("/bin/sh", "sh", "-c", plan->server, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void stop_server(pid_t pid) {
    uint64_t deadline = bench_now_ns() + 10000000000u;
    kill(-pid, SIGTERM);
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (bench_now_ns() > deadline)
            kill(-pid, SIGKILL);
        bench_sleep_until_ns(bench_now_ns() + 5000000);
    }
    kill(-pid, SIGKILL); /* what it left behind in its group */
}

typedef struct job {
    const gate_workload_t *workload;
    const gate_params_t *params;
} job_t;

static void in_child(void *context, bench_run_t *run) {
    const job_t *job = context;
    job->workload->run(job->params, run);
    bench_progress_done();
}

void gate_run_once(const gate_workload_t *workload, const gate_params_t *params, bench_run_t *run) {
    job_t job = {workload, params};
    unsigned patience = 120 + (unsigned)(params->duration + params->warmup) + (unsigned)params->connections / 200;
    bench_in_child(run, in_child, &job, patience);
}

static void run_target(const gate_plan_t *plan, const gate_params_t *params, bench_run_t *run) {
    if (!plan->server) {
        gate_run_once(plan->workload, params, run);
        return;
    }
    pid_t pid = start_server(plan);
    if (generator_wait_listening(params->to, 20, (int)pid))
        gate_run_once(plan->workload, params, run);
    else
        bench_fail(run, "the server '%s' does not listen on %s", plan->server, params->to);
    stop_server(pid);
}

json_t *gate_params_json(const gate_plan_t *plan) {
    const gate_params_t *p = &plan->params;
    address_t address;
    address_parse(p->to, &address);
    json_t *o = json_pack("{s:s,s:I,s:f,s:f}", "wire",
                          address.kind == WIRE_WS_TEXT ? (p->binary ? "ws-binary" : "ws-text") : "tcp", "connections",
                          (json_int_t)p->connections, "duration", p->duration, "warmup", p->warmup);
    json_object_set_new(o, "size", json_integer((json_int_t)p->size));
    if (p->rate > 0)
        json_object_set_new(o, "rate", json_real(p->rate));
    else
        json_object_set_new(o, "outstanding", json_integer((json_int_t)p->outstanding));
    if (plan->workload->run == gate_rooms)
        json_object_set_new(o, "room", json_integer((json_int_t)p->room));
    if (p->sleeps)
        json_object_set_new(o, "sleep", json_true());
    if (p->json_body)
        json_object_set_new(o, "body", json_string("json"));
    return o;
}

static void floor_once(const gate_plan_t *plan, bench_result_t *result, const char *kind) {
    floor_server_t server;
    gate_params_t params = plan->params;
    bench_run_t run = {0};
    char login[48];
    floor_server_start(&server, kind, plan->server_cpu);
    params.to = server.to;
    params.pid = (uint64_t)server.pid;
    snprintf(login, sizeof login, "%llu-floor-{n}", (unsigned long long)params.room);
    params.login = login;
    params.ready = "echo";
    params.cmd = params.reply_cmd = FLOOR_CMD_ECHO;
    params.broadcast_cmd = params.multicast_cmd = FLOOR_CMD_BROADCAST;
    params.room_cmd = FLOOR_CMD_ROOM;
    gate_run_once(plan->workload, &params, &run);
    floor_server_stop(&server);
    bench_result_add_run(result, &run);
}

static double score(const bench_result_t *r) {
    for (unsigned i = 0; i < r->run_count; i++)
        for (unsigned m = 0; m < r->runs[i].metric_count; m++)
            if (r->runs[i].metrics[m].better == BENCH_HIGHER) {
                unsigned n;
                double *values = bench_values(r, r->runs[i].metrics[m].name, &n), median = bench_median(values, n);
                free(values);
                return median;
            }
    return 0;
}

/* Floor is the better of what can be had on one core. */
static void choose_floor(bench_result_t *result, bench_result_t **floors, const char *const *kinds, unsigned count) {
    unsigned best = 0;
    for (unsigned i = 1; i < count; i++)
        if (score(floors[i]) > score(floors[best]))
            best = i;
    for (unsigned i = 0; i < count; i++)
        if (i != best)
            bench_result_free(floors[i]);
    result->floor = floors[best];
    snprintf(result->floor_name, sizeof result->floor_name, "%s", kinds[best]);
}

bench_result_t *gate_execute(const gate_plan_t *plan) {
    static const char *const tcp[] = {"epoll-tcp", "libuv-tcp"}, *const ws[] = {"epoll-ws"};
    address_t address;
    address_parse(plan->params.to, &address);
    const char *const *kinds = address.kind == WIRE_WS_TEXT ? ws : tcp;
    bool epoll_only = address.kind == WIRE_WS_TEXT || plan->workload->run == gate_rooms;
    unsigned kind_count = plan->floor ? (epoll_only ? 1 : 2) : 0;
    bench_result_t *result = bench_result_new("gate", plan->workload->name, gate_params_json(plan));
    bench_result_t *floors[2] = {0};
    for (unsigned k = 0; k < kind_count; k++)
        floors[k] = bench_result_new("gate", plan->workload->name, json_incref(result->params));
    for (uint64_t i = 0; i < plan->runs; i++) {
        bench_run_t run = {0};
        bench_progress("gate %s: run %llu of %llu", plan->workload->name, (unsigned long long)i + 1,
                       (unsigned long long)plan->runs);
        for (unsigned k = 0; k < kind_count; k++)
            floor_once(plan, floors[k], kinds[k]);
        double issue = floor_issue_now();
        run_target(plan, &plan->params, &run);
        bench_metric(&run, BENCH_ISSUE, "G/s", BENCH_INFO, (issue + floor_issue_now()) / 2e9);
        bench_result_add_run(result, &run);
    }
    if (kind_count)
        choose_floor(result, floors, kinds, kind_count);
    return result;
}
