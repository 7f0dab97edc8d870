// Names of units as microscopes' files spell them.
#ifndef CLI_UNITS_H
#define CLI_UNITS_H

// Micrometres in one of the unit; 0: not a length that is known (pixels, say).
double units_length(const char *name);
// Seconds in one of the unit; 0: unknown.
double units_time(const char *name);
// A number above 0 and below 1e12, else 0.
double units_positive(const char *text);

#endif
