#include "conf/usage.h"

#include <string.h>

static const char program[] =
    "redrabbit GRAPH.yaml [-option value …]   runs a config graph; --node NAME runs that node's share of it; --watch loads what you save\n"
    "redrabbit -option value …                runs what the options say; -f FILE takes them from a file\n"
    "redrabbit up GRAPH.yaml [NODE …] [-option value …]\n"
    "                                         starts every node of the graph as a process of this machine; Ctrl-C ends all, scenes first\n"
    "redrabbit ps --broker ADDRESS|GRAPH.yaml  who is where: nodes, actors, links; --cluster_key FILE --group NAME --json\n"
    "redrabbit drain NODE --broker ADDRESS|GRAPH.yaml\n"
    "                                         empties a node in an orderly way and ends it\n"
    "redrabbit check GRAPH.yaml               looks for mistakes; check --options lists every option\n"
    "redrabbit graph GRAPH.yaml [--svg [FILE]] draws it\n"
    "redrabbit new NAME                       makes a folder with a graph, a script, a page and a test\n"
    "redrabbit COMMAND --help                 one of these: how it is written, its options, an example\n"
    "redrabbit --version | --help | --home   (the folder of its Python package and JavaScript client)\n"
    "\n"
    "A gate, a scene and their broker in one process:\n"
    "  redrabbit -broker tcp://127.0.0.1:10241 -gate gate@0 -gate_listen tcp://127.0.0.1:10242 -scene scene@0 -python_path ./\n"
    "The most used options (all of them: redrabbit check --options):\n"
    "  -gate NAME -gate_listen ADDRESS,…  -scene NAME,…  -script FILE  -python_path DIR,…  -python_venv DIR\n"
    "  -broker ADDRESS -master_broker ADDRESS -bridge_broker GROUP@ADDRESS,…  -cluster_key FILE  -group NAME\n"
    "  -heartbeat_timeout SECONDS  -max_packet_size BYTES  -www DIR  -d (in the background)\n"
    "  -log_level 1..6 -log_class A,B -log_path DIR -log_filename STEM -log_print_screen true -log_print_file true\n"
    "  -perf_path DIR -perf_timeout SECONDS\n";

static const struct {
    const char *name, *text;
} commands[] = {
    {RR_USAGE_RUN, "redrabbit GRAPH.yaml [--node NAME] [--watch] [-option value …]\n"
                   "\n"
                   "Runs a graph in this process, until Ctrl-C ends it.\n"
                   "\n"
                   "  --node NAME      only that node's share of it, for a graph with nodes (redrabbit up starts all of them)\n"
                   "  --watch          scripts are loaded as soon as they are saved; clients stay\n"
                   "  -d               in the background\n"
                   "  -f FILE          takes options from a file\n"
                   "  -option value …  in place of the graph's (redrabbit check --options lists them)\n"
                   "\n"
                   "  redrabbit world.yaml --watch -log_level debug\n"},
    {"up", "redrabbit up GRAPH.yaml [NODE …] [-option value …]\n"
           "\n"
           "Starts every node of the graph (or only those named) as a process of this machine, shows their output together, and starts\n"
           "again what crashes. What you save is loaded at once, unless the graph says `reload_on_save: false`. Ctrl-C ends all: scenes\n"
           "first, then databases, gates, brokers; a second one ends them now.\n"
           "\n"
           "  NODE …           only these nodes; the master of their group may run elsewhere\n"
           "  -option value …  for every node, as on its own command line (redrabbit check --options lists them)\n"
           "\n"
           "It ends with 0 if all ended well, 1 if a node did not start or failed too often, 3 if one did not end in order or in time, or\n"
           "had crashed and was not running again when the end came.\n"
           "\n"
           "  redrabbit up world.yaml -log_level debug\n"},
    {"ps", "redrabbit ps GRAPH.yaml | --broker ADDRESS [--group NAME] [--cluster_key FILE] [--timeout TIME] [--json]\n"
           "\n"
           "Asks the master of a running group who is where: nodes, actors, links. The graph that its nodes run says the address, the group\n"
           "and the key; without it:\n"
           "\n"
           "  --broker ADDRESS    the master's port for nodes, such as tcp://127.0.0.1:10241\n"
           "  --group NAME        its group (default)\n"
           "  --cluster_key FILE  the group's key; that of a `redrabbit up` of this user is found without\n"
           "  --timeout TIME      how long it waits for the answer, such as 500ms or 10s (5s)\n"
           "  --json              the answer as JSON: nodes, names, links\n"
           "\n"
           "  redrabbit ps world.yaml\n"
           "  redrabbit ps --broker tcp://127.0.0.1:10241 --group world --json\n"},
    {"drain", "redrabbit drain NODE GRAPH.yaml | --broker ADDRESS [--group NAME] [--cluster_key FILE] [--timeout TIME]\n"
              "\n"
              "Empties a node in an orderly way and ends it: its scenes hand their sessions over to other nodes (`on_drain`, `drain_to`), no\n"
              "message is lost. Returns when the node is gone. The graph that its nodes run says address, group and key; without it:\n"
              "\n"
              "  --broker ADDRESS    the master's port for nodes, such as tcp://127.0.0.1:10241\n"
              "  --group NAME        its group (default)\n"
              "  --cluster_key FILE  the group's key; that of a `redrabbit up` of this user is found without\n"
              "  --timeout TIME      how long it waits for the node's end (60s); the node goes on ending after that\n"
              "\n"
              "It ends with 0 when the node is gone, 1 if it could not be told, 3 if the time was over.\n"
              "\n"
              "  redrabbit drain back world.yaml\n"},
    {"check", "redrabbit check GRAPH.yaml | --options\n"
              "\n"
              "Looks for mistakes in a graph without running it: each is one line with file, line and column, and how to mend it.\n"
              "\n"
              "  --options  lists every option of graphs and command lines instead, with its default and what it means\n"
              "\n"
              "It ends with 0 if the graph is fine, else 2.\n"
              "\n"
              "  redrabbit check world.yaml\n"},
    {"graph", "redrabbit graph GRAPH.yaml [--svg [FILE]]\n"
              "\n"
              "Draws which actors run on which node, and who talks to whom: as text, or\n"
              "\n"
              "  --svg [FILE]  as SVG, to standard output or into a file\n"
              "\n"
              "  redrabbit graph world.yaml --svg world.svg\n"},
    {"new", "redrabbit new NAME\n"
            "\n"
            "Makes a folder NAME with a graph, a script, a page and a test, which runs as it is.\n"
            "\n"
            "  redrabbit new mygame\n"
            "  redrabbit mygame/graph.yaml --watch\n"},
};

void rr_usage_print(const char *command, FILE *out) {
    const char *text = program;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        text = strcmp(commands[i].name, command) == 0 ? commands[i].text : text;
    fputs(text, out);
}
