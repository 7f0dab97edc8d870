// Which shared libraries this process has really loaded, and from where: the first question when a machine has
// several of them.
#ifndef CLI_LOADED_H
#define CLI_LOADED_H

#include "cli/files.h"

// Full paths of the loaded libraries that matter here: libusplit and its plug-in, oneDNN, HDF5, CUDA, TIFF, PNG. The
// CUDA runtime is not among them, as it is part of the plug-in.
int loaded_list(files_list *list);

#endif
