// One network fixture file, group by group, through the library's own path: graph, plan, CPU backend.
#ifndef US_NET_CASE_H
#define US_NET_CASE_H

// Called once per group; ok is what counts.
typedef void (*us_net_report)(const char *group, double worst, double tolerance, int ok, void *user);

// 0: done (groups reported), 1: could not be run (reason in *why), 2: not implemented (reason in *why).
int us_net_case(const char *path, us_net_report report, void *user, const char **why);

#endif
