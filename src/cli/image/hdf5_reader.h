// Images in HDF5 files, read within this process. Only hdf5_kind.c calls it, in a process made for the purpose:
// damaged files can crash the HDF5 library.
#ifndef CLI_HDF5_READER_H
#define CLI_HDF5_READER_H

#include "cli/image/image_kind.h"

typedef struct hdf5_reader hdf5_reader;

// There is no close: the process ends.
int hdf5_reader_open(hdf5_reader **out, const image_choice *choice, image_facts *facts);
int hdf5_reader_rows(hdf5_reader *reader, int64_t page, int64_t row, int64_t n_rows, float *dst);

#endif
