/* commands.h: the subcommands of rr-bench. argv[first] is what follows the subcommand's name; each returns the program's
 * exit status: 0, 1 = a run failed: an integrity check, or its server could not be reached (or, for compare, something got
 * slower). */
#ifndef RR_BENCH_COMMANDS_H
#define RR_BENCH_COMMANDS_H

int command_actors(int argc, char **argv, int first);
int command_gate(int argc, char **argv, int first);
int command_floor(int argc, char **argv, int first);
int command_cluster(int argc, char **argv, int first);
int command_db(int argc, char **argv, int first);
int command_server(int argc, char **argv, int first);
int command_suite(int argc, char **argv, int first);
int command_report(int argc, char **argv, int first);
int command_compare(int argc, char **argv, int first);

/* Their options, for `help`. */
void command_actors_help(void);
void command_gate_help(void);
void command_floor_help(void);
void command_cluster_help(void);
void command_db_help(void);
void command_compare_help(void);
void command_suite_help(void);

#endif
