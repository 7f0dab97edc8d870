// One network fixture file, group by group, through the library's own path: graph, plan, backend.
#ifndef US_NET_CASE_H
#define US_NET_CASE_H

// Called once per group; ok is what counts.
typedef void (*us_net_report)(const char *group, double worst, double tolerance, int ok, void *user);

typedef struct us_net_device {
    const char *name;           // as in usplit_context_options
    int half;                   // 1: fp16
} us_net_device;

// 0: done (groups reported), 1: could not be run (reason in *why), 2: not implemented (reason in *why).
int us_net_case(const char *path, const us_net_device *device, us_net_report report, void *user, const char **why);

#endif
