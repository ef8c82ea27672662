#include "python/interpreter.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "python/memory.h"
#include "python/module.h"
#include "python/poller.h"
#include "python/threadstate.h"
#include "python/watchdog.h"
#include "runtime/executor.h"

#ifndef RR_PYTHON_EXECUTABLE
#error "RR_PYTHON_EXECUTABLE: path of the embedded CPython's own executable"
#endif

#define MAX_INTERPRETERS 65536u

static struct {
    bool started;
    PyThreadState *main_state; /* of the thread that started CPython */
    rr__interp_t main;
    bool main_lent;             /* under lock */
    bool abandoned;             /* an interpreter is left behind; under lock */
    unsigned alive;             /* interpreters besides the main one; under lock */
    pthread_mutex_t lock;       /* the fields here and rr__interp.threads; held for moments only, no GIL wanted inside */
    pthread_mutex_t birth_lock; /* one interpreter is made or ended at a time; taken without any GIL */
    unsigned char slots[MAX_INTERPRETERS / 8];
    /* Interpreters waiting for their last thread. Changed with the lock held, read relaxed as a hint. */
    atomic_uint ending;
    char package_path[4096], venv[4096], home[4096];
    double switch_interval;
} process = {.lock = PTHREAD_MUTEX_INITIALIZER,
             .birth_lock = PTHREAD_MUTEX_INITIALIZER,
             .main = {.main = true, .release_lock = PTHREAD_MUTEX_INITIALIZER}};

rr__interp_t *rr__interp_main(void) { return &process.main; }
PyThreadState *rr__interp_first_state(void) { return process.main_state; }
const char *rr__python_package_path(void) { return process.package_path; }
const char *rr__python_venv(void) { return process.venv[0] ? process.venv : NULL; }
double rr__python_switch_interval(void) { return process.switch_interval; }
bool rr_python_parallel(void) { return RR__OWN_GIL; }
rr_interpreter_t rr__interp_default(void) { return RR__OWN_GIL ? RR_INTERPRETER_OWN : RR_INTERPRETER_SHARED; }
bool rr__interp_any_ending(void) { return atomic_load_explicit(&process.ending, memory_order_relaxed) > 0; }
const char *rr_python_home(void) { return process.home; }

/* Of the loaded library, which the headers may be a patch level away from. */
const char *rr_python_version(void) {
    static _Thread_local char version[32];
    size_t length = strcspn(Py_GetVersion(), " +");
    snprintf(version, sizeof version, "%.*s", (int)length, Py_GetVersion());
    return version;
}

/* ---- Start ---- */

/* The version a virtual environment was made for, e.g. "3.11.2"; false if its pyvenv.cfg cannot be read. */
static bool venv_version(const char *venv, char *out, size_t size) {
    char path[4200], line[512];
    snprintf(path, sizeof path, "%s/pyvenv.cfg", venv);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool found = false;
    while (!found && fgets(line, sizeof line, file)) {
        char key[64], value[64];
        if (sscanf(line, " %63[a-z_] = %63s", key, value) == 2 &&
            (strcmp(key, "version") == 0 || strcmp(key, "version_info") == 0)) {
            snprintf(out, size, "%s", value);
            found = true;
        }
    }
    fclose(file);
    return found;
}

static bool same_minor(const char *a, const char *b) {
    int a_major = 0, a_minor = 0, b_major = 0, b_minor = 0;
    if (sscanf(a, "%d.%d", &a_major, &a_minor) != 2 || sscanf(b, "%d.%d", &b_major, &b_minor) != 2)
        return false;
    return a_major == b_major && a_minor == b_minor;
}

static int check_venv(const char *venv, char *why, size_t why_size) {
    char version[64];
    if (!venv_version(venv, version, sizeof version))
        return rr_fail(RR_EINVAL, why, why_size, "%s is no virtual environment (no pyvenv.cfg with a version in it)",
                       venv);
    if (!same_minor(version, rr_python_version()))
        return rr_fail(
            RR_EINVAL, why, why_size,
            "the virtual environment %s was made by Python %s, but this program embeds CPython %s: make it anew "
            "with python%.4s -m venv, or build with -DRR_PYTHON set to that Python",
            venv, version, rr_python_version(), rr_python_version());
    return RR_OK;
}

/* What sys.executable will be: option, the venv's, or the embedded CPython's own. */
static int choose_executable(const rr_python_options_t *options, char *out, size_t size, char *why, size_t why_size) {
    static const char *const names[] = {"python3", "python"};
    if (options->executable) {
        snprintf(out, size, "%s", options->executable);
    } else if (options->venv) {
        for (size_t i = 0; i < 2; i++) {
            snprintf(out, size, "%s/bin/%s", options->venv, names[i]);
            if (access(out, X_OK) == 0)
                break;
        }
    } else {
        snprintf(out, size, "%s", RR_PYTHON_EXECUTABLE);
        if (access(out, X_OK) != 0)
            out[0] = '\0'; /* moved or removed: the library falls back to the prefix it was configured with */
        return RR_OK;
    }
    if (access(out, X_OK) != 0)
        return rr_fail(RR_EINVAL, why, why_size, "there is no Python at %s: name an existing one", out);
    return RR_OK;
}

/* Whole names: a script may change the working folder, and CPython 3.13 crashes over "./.venv/bin/python3" where that is a
 * link, as `python -m venv` makes it. */
static int anchor(const char **path, char *out, size_t size, char *why, size_t why_size) {
    const char *name = *path;
    if (!name || name[0] == '/')
        return RR_OK;
    if (!getcwd(out, size))
        return rr_fail(rr_error_from_errno(errno), why, why_size, "%s is not found: the working folder is away", name);
    while (name[0] == '.' && name[1] == '/')
        name += 2;
    size_t used = strlen(out);
    if ((size_t)snprintf(out + used, size - used, "/%s", name) >= size - used)
        return rr_fail(RR_ETOOBIG, why, why_size, "the name of %s is too long", name);
    *path = out;
    return RR_OK;
}

static int failed(PyStatus status, char *why, size_t why_size) {
    return rr_fail(RR_EIO, why, why_size, "CPython %s does not start: %s", rr_python_version(),
                   status.err_msg ? status.err_msg : "unknown reason");
}

static int preinitialize(char *why, size_t why_size) {
    PyPreConfig config;
    PyPreConfig_InitIsolatedConfig(&config);
    config.utf8_mode = 1;
    /* pymalloc corrupts memory across own-GIL interpreters (measured on 3.12.1 and 3.13.0). */
    config.allocator = PYMEM_ALLOCATOR_MALLOC;
    PyStatus status = Py_PreInitialize(&config);
    return PyStatus_Exception(status) ? failed(status, why, why_size) : RR_OK;
}

static int initialize(const char *executable, char *why, size_t why_size) {
    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 0;
    config.parse_argv = 0;
    config.write_bytecode = getenv("PYTHONDONTWRITEBYTECODE") ? 0 : 1;
    PyStatus status = PyStatus_Ok();
    if (executable[0])
        status = PyConfig_SetBytesString(&config, &config.executable, executable);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return PyStatus_Exception(status) ? failed(status, why, why_size) : RR_OK;
}

/* threading is imported here so that CPython's idea of the main thread is the main thread. Of a crash in an extension,
 * faulthandler says on standard error where the script was; the process then ends as it would without it. Before 3.13 it
 * does not know which of several interpreters a thread is in. */
static int prepare_main(char *why, size_t why_size) {
    char code[512];
    snprintf(code, sizeof code,
             "import sys, threading, os, faulthandler\nsys.setswitchinterval(%.6f)\nhome = os.path.dirname(os.__file__)\n%s",
             process.switch_interval, RR__OWN_GIL ? "faulthandler.enable(2, all_threads=False)\n" : "");
    PyObject *globals = PyDict_New();
    PyObject *result = globals ? PyRun_String(code, Py_file_input, globals, globals) : NULL;
    PyObject *home = result ? PyDict_GetItemString(globals, "home") : NULL;
    const char *text = home ? PyUnicode_AsUTF8(home) : NULL;
    if (text)
        snprintf(process.home, sizeof process.home, "%s", text);
    else
        PyErr_Clear();
    Py_XDECREF(result);
    Py_XDECREF(globals);
    if (text)
        return RR_OK;
    return rr_fail(RR_EIO, why, why_size, "CPython %s does not find its standard library", rr_python_version());
}

/* Before 3.13 some C modules of the standard library keep static objects that the first interpreter to import them owns:
 * the main interpreter, which outlives all others, goes first. */
static void own_static_modules(void) {
#if !RR__OWN_GIL
    static const char *const names[] = {"_datetime", "_ctypes", "pyexpat"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        PyObject *module = PyImport_ImportModule(names[i]);
        if (!module)
            PyErr_Clear(); /* not built into this CPython: then no script imports it either */
        Py_XDECREF(module);
    }
#endif
}

static void remember(const rr_python_options_t *options) {
    snprintf(process.package_path, sizeof process.package_path, "%s",
             options->package_path ? options->package_path : RR_PYTHON_DIR);
    snprintf(process.venv, sizeof process.venv, "%s", options->venv ? options->venv : "");
    process.switch_interval = (options->switch_interval_us ? (double)options->switch_interval_us : 500.0) / 1e6;
    process.slots[0] |= 1; /* the main interpreter's */
    process.main.slot = 0;
}

/* Python expects a write to a closed pipe to be an error, not the end of the process. */
static void ignore_sigpipe(void) {
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
        action.sa_handler = SIG_IGN;
        sigaction(SIGPIPE, &action, NULL);
    }
}

int rr_python_start(const rr_python_options_t *given, char *why, size_t why_size) {
    char executable[4096] = "", own_executable[4096], venv[4096];
    rr_python_options_t whole = given ? *given : (rr_python_options_t){0}, *options = &whole;
    if (process.started)
        return rr_fail(RR_ESTATE, why, why_size, "CPython can be started only once in a process");
    int rc = anchor(&options->venv, venv, sizeof venv, why, why_size);
    if (rc == RR_OK)
        rc = anchor(&options->executable, own_executable, sizeof own_executable, why, why_size);
    if (rc == RR_OK && options->venv)
        rc = check_venv(options->venv, why, why_size);
    if (rc == RR_OK)
        rc = choose_executable(options, executable, sizeof executable, why, why_size);
    if (rc != RR_OK)
        return rc;
    process.started = true;
    ignore_sigpipe();
    remember(options);
    if (PyImport_AppendInittab("_redrabbit", rr__module_init) != 0)
        return RR_ENOMEM;
    rc = preinitialize(why, why_size);
    if (rc == RR_OK) {
        rr__memory_install();
        rc = initialize(executable, why, why_size);
    }
    if (rc != RR_OK)
        return rc;
    process.main.state = PyInterpreterState_Main();
    rc = prepare_main(why, why_size);
    own_static_modules();
    process.main_state = PyThreadState_Get();
    if (rc == RR_OK)
        rc = rr__thread_adopt(&process.main, process.main_state);
    PyEval_SaveThread();
    return rc;
}

/* ---- Stop ---- */

bool rr_python_stop(void) {
    if (!process.started)
        return true;
    rr__watchdog_stop();
    rr__poller_stop();
    rr__thread_end();
    rr__thread_forget(&process.main);
    pthread_mutex_lock(&process.lock);
    bool alone = !process.abandoned && process.main.threads == 0 && process.alive == 0;
    pthread_mutex_unlock(&process.lock);
    if (!alone)
        return false;
    PyEval_RestoreThread(process.main_state);
    PyThreadState *first = PyInterpreterState_ThreadHead(process.main.state);
    if (PyThreadState_Next(first)) { /* somebody's thread still lives in the main interpreter */
        PyEval_SaveThread();
        return false;
    }
    return Py_FinalizeEx() == 0;
}

/* ---- Interpreters ---- */

static int slot_take(unsigned *slot) {
    int rc = RR_ELIMIT;
    pthread_mutex_lock(&process.lock);
    for (unsigned i = 1; i < MAX_INTERPRETERS && rc != RR_OK; i++) {
        if (process.slots[i / 8] >> (i % 8) & 1)
            continue;
        process.slots[i / 8] |= (unsigned char)(1u << (i % 8));
        process.alive++;
        *slot = i;
        rc = RR_OK;
    }
    pthread_mutex_unlock(&process.lock);
    return rc;
}

static void slot_give(unsigned slot) {
    pthread_mutex_lock(&process.lock);
    process.slots[slot / 8] &= (unsigned char)~(1u << (slot % 8));
    process.alive--;
    pthread_mutex_unlock(&process.lock);
}

/* With the thread's main state current: makes the new interpreter, whose state is current afterwards; NULL on failure. */
static PyThreadState *spawn(bool own_gil) {
#if RR__OWN_GIL
    if (own_gil) {
        const PyInterpreterConfig config = {
            .use_main_obmalloc = 0,
            .allow_fork = 0,
            .allow_exec = 0,
            .allow_threads = 1,
            .allow_daemon_threads = 0,
            .check_multi_interp_extensions = 1,
            .gil = PyInterpreterConfig_OWN_GIL,
        };
        PyThreadState *state = NULL;
        PyStatus status = Py_NewInterpreterFromConfig(&state, &config);
        return PyStatus_Exception(status) ? NULL : state;
    }
#endif
    return Py_NewInterpreter();
}

static int interp_birth(bool own_gil, rr__interp_t *interp, char *why, size_t why_size) {
    PyThreadState *base = rr__thread_state(&process.main);
    if (!base)
        return rr_fail(RR_ENOMEM, why, why_size, "out of memory");
    pthread_mutex_lock(&process.birth_lock);
    PyEval_RestoreThread(base);
    PyThreadState *state = spawn(own_gil);
    if (!state)
        PyEval_SaveThread();
    pthread_mutex_unlock(&process.birth_lock);
    if (!state)
        return rr_fail(RR_ENOMEM, why, why_size, "CPython makes no new interpreter (out of memory?)");
    interp->state = PyThreadState_GetInterpreter(state);
    interp->own_gil = own_gil;
    if (rr__thread_adopt(interp, state) == RR_OK)
        return RR_OK;
    PyEval_SaveThread();
    rr__interp_abandon(interp);
    return rr_fail(RR_ENOMEM, why, why_size, "out of memory");
}

static int lend_main(rr__interp_t **out, char *why, size_t why_size) {
    pthread_mutex_lock(&process.lock);
    bool lent = process.main_lent;
    process.main_lent = true;
    pthread_mutex_unlock(&process.lock);
    if (lent)
        return rr_fail(RR_ELIMIT, why, why_size,
                       "`interpreter: main` is taken by another scene of this process: only one can have it. "
                       "Give this scene a node of its own, or another interpreter");
    PyThreadState *state = rr__thread_state(&process.main);
    if (!state) {
        rr__interp_release(&process.main);
        return RR_ENOMEM;
    }
    PyEval_RestoreThread(state);
    *out = &process.main;
    return RR_OK;
}

int rr__interp_new(rr_interpreter_t kind, rr__interp_t **out, char *why, size_t why_size) {
    if (!process.started)
        return rr_fail(RR_ESTATE, why, why_size, "CPython was not started");
    if (kind == RR_INTERPRETER_MAIN)
        return lend_main(out, why, why_size);
    if (kind == RR_INTERPRETER_OWN && !rr_python_parallel())
        return rr_fail(
            RR_EUNSUPPORTED, why, why_size,
            "`interpreter: own` needs CPython 3.13 or later, this program embeds %s: use `interpreter: shared`",
            rr_python_version());
    rr__interp_t *interp = calloc(1, sizeof *interp);
    if (!interp)
        return RR_ENOMEM;
    pthread_mutex_init(&interp->release_lock, NULL);
    int rc = slot_take(&interp->slot);
    if (rc == RR_OK) {
        rc = interp_birth(kind == RR_INTERPRETER_OWN, interp, why, why_size);
        if (rc != RR_OK)
            slot_give(interp->slot);
    } else {
        snprintf(why, why_size, "this process has its limit of %u Python interpreters", MAX_INTERPRETERS);
    }
    if (rc != RR_OK) {
        pthread_mutex_destroy(&interp->release_lock);
        free(interp);
        return rc;
    }
    *out = interp;
    return RR_OK;
}

void rr__interp_count(rr__interp_t *interp, int by) {
    pthread_mutex_lock(&process.lock);
    interp->threads += (unsigned)by;
    pthread_mutex_unlock(&process.lock);
}

void rr__interp_release(rr__interp_t *interp) {
    if (interp->main) {
        pthread_mutex_lock(&process.lock);
        process.main_lent = false;
        pthread_mutex_unlock(&process.lock);
        return;
    }
    atomic_fetch_add_explicit(&process.ending, 1, memory_order_relaxed);
    atomic_store_explicit(&interp->ending, true, memory_order_release);
    rr__thread_give_back(interp);
}

void rr__interp_abandon(rr__interp_t *interp) {
    pthread_mutex_lock(&process.lock);
    process.abandoned = true;
    pthread_mutex_unlock(&process.lock);
}

/* 3.11 keeps the GIL after Py_EndInterpreter and has no thread state then: one of the main interpreter lets it go. */
void rr__interp_end(rr__interp_t *interp, PyThreadState *last) {
#if PY_VERSION_HEX >= 0x030C0000
    Py_EndInterpreter(last);
#else
    PyThreadState *base = rr__thread_state(&process.main);
    Py_EndInterpreter(last);
    if (!base)
        base = PyThreadState_New(process.main.state);
    PyThreadState_Swap(base);
    PyEval_SaveThread();
#endif
}

void rr__interp_free(rr__interp_t *interp) {
    slot_give(interp->slot);
    atomic_fetch_sub_explicit(&process.ending, 1, memory_order_relaxed);
    pthread_mutex_destroy(&interp->release_lock);
    free(interp);
}

unsigned rr__interp_foreign_threads(rr__interp_t *interp) {
    unsigned all = 0;
    for (PyThreadState *state = PyInterpreterState_ThreadHead(interp->state); state; state = PyThreadState_Next(state))
        all++;
    pthread_mutex_lock(&process.lock);
    unsigned ours = interp->threads + (interp->orphan ? 1 : 0);
    pthread_mutex_unlock(&process.lock);
    return all > ours ? all - ours : 0;
}

/* ---- Workers ---- */

static void worker_begin(void *context, rr_worker_t *worker) {}

static void worker_end(void *context, rr_worker_t *worker) { rr__thread_end(); }

void rr_python_pool_options(rr_pool_options_t *options, unsigned threads) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    *options = (rr_pool_options_t){
        .name = "python",
        .threads = threads ? threads : (unsigned)(cpus > 2 ? cpus : 2),
        .stack_size = 16u << 20, /* C recursion needs 4 MiB on 3.13 */
        .turn_messages = 64,
        .turn_us = 2000,
        .stuck_ms = 20,
        .thread_begin = worker_begin,
        .thread_end = worker_end,
    };
    options->max_spares = 4 * options->threads + 8;
}
