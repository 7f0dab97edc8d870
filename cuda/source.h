// An elementwise program as the text of a C++ struct, what compiled.h makes a kernel of. The text says which ops
// there are and how their values flow, not where tensors lie: programs alike at other levels of a network are the same
// text, and share a kernel. Plain C.
#ifndef US_CUDA_SOURCE_H
#define US_CUDA_SOURCE_H

#include <stddef.h>

#include "program.h"

// Ops that a kernel's arguments have room for; longer programs are interpreted.
enum { US_CU_MOST_COMPILED = 36 };

// Text of the program, whose registers are chained (us_cu_map_chain) and whose accumulators are numbered from 0; from
// "typedef" on, without the struct's head, so that equal programs have equal texts. Returns its length; it has been
// cut where that is `size` or more.
size_t us_cu_source(char *text, size_t size, const us_cu_program *program, const us_cu_op *ops, int half);

#endif
