// Checks against a pieces.h5 of the published implementation's numbers, group by group.
#ifndef US_PARITY_PIECES_H
#define US_PARITY_PIECES_H

// One call per group: its worst error, the tolerance it was held to, and whether it passed.
typedef void (*us_parity_report_fn)(const char *group, double worst, double tolerance, int ok, void *user);

// Groups lc, lc_even, norm, datasplit/*, metrics, sinosoidal/*. Returns how many groups failed, -1 when the
// file cannot be opened. A group that the file lacks is not reported.
int us_parity_pieces_data(const char *pieces_h5, us_parity_report_fn report, void *user);

#endif
