/* describe.c: a running graph in words for people, and as figures in a file. */
#include "conf/spawn_impl.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static void describe_python(const rr_running_t *running, FILE *out) {
    fprintf(out, "redrabbit: CPython %s (%s)\n", rr_python_version(), rr_python_home());
    if (rr_python_parallel())
        fprintf(out, "redrabbit: scenes run in parallel: each has its own interpreter and GIL\n");
    else
        fprintf(out, "redrabbit: scenes share one GIL and do not run in parallel; CPython >= 3.13 does that: ./dev python builds "
                     "one, then ./dev build\n");
    if (running->venv[0])
        fprintf(out, "redrabbit: virtual environment %s\n", running->venv);
    else
        fprintf(out, "redrabbit: no virtual environment; .venv beside the graph or -python_venv DIR gives one\n");
}

static void describe_gate(const rr_running_t *running, size_t index, FILE *out) {
    const rr_value_t *listen = rr_item_value(running->gate_items[index], "listen");
    rr_gate_t *gate = running->gates[index];
    char text[300];
    for (size_t i = 0; i < listen->count; i++) {
        rr_address_t address;
        if (rr_address_parse(listen->texts[i], &address, NULL, 0) != RR_OK)
            continue;
        address.port = rr_gate_port(gate, i);
        fprintf(out, "redrabbit: %s listens on %s\n", rr_gate_name(gate), rr_address_format(&address, text, sizeof text));
        if (i || !rr_item_value(running->gate_items[index], "www"))
            continue;
        bool any = strcmp(address.host, "*") == 0 || strcmp(address.host, "0.0.0.0") == 0 || strcmp(address.host, "::") == 0;
        address.scheme = RR_SCHEME_HTTP;
        address.byte_order = RR_BYTE_ORDER_UNSAID;
        if (any)
            snprintf(address.host, sizeof address.host, "127.0.0.1");
        const char *token = rr_gate_editor_token(gate);
        fprintf(out, "redrabbit: the page is %s/%s%s\n", rr_address_format(&address, text, sizeof text), token ? "#token=" : "",
                token ? token : "");
    }
}

void rr_running_describe(rr_running_t *running, bool late, FILE *out) {
    if (!late && running->python_started)
        describe_python(running, out);
    if (!late && running->member)
        rr_membership_describe(running->member, out);
    for (size_t i = 0; late && i < running->gate_count; i++)
        describe_gate(running, i, out);
    if (late && running->reload)
        fprintf(out, "redrabbit: saved scripts are loaded at once\n");
}

/* ---- The performance report ---- */

int rr_running_report(rr_running_t *running, const char *folder) {
    char path[PATH_MAX], day[32], now[64], stem[256];
    time_t seconds = time(NULL);
    struct tm local;
    rr_buffer_t *text = NULL;
    localtime_r(&seconds, &local);
    strftime(day, sizeof day, "%Y%m%d", &local);
    strftime(now, sizeof now, "%Y-%m-%d %H:%M:%S", &local);
    snprintf(path, sizeof path, "%s/%s-%s.txt", folder, rr__own_stem(running, "perf", stem, sizeof stem), day);
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return rr_error_from_errno(errno);
    int rc = rr_metrics_text(running->system, &text);
    if (rc != RR_OK)
        return rc;
    FILE *file = fopen(path, "ae");
    bool ok = file && fprintf(file, "# %s\n", now) > 0 && fwrite(rr_buffer_data(text), 1, rr_buffer_size(text), file) == rr_buffer_size(text);
    if (file && fclose(file) != 0)
        ok = false;
    rr_buffer_unref(text);
    return ok ? RR_OK : RR_EIO;
}
