// The row of Double-DIP, which has no training set: it fits networks to every crop anew (data 8). The library has no
// function for it yet; where it gets one, crops are cut, split and scored here.
#include "cli/cli.h"
#include "cli/repro.h"

int repro_dip_run(const repro_request *request, const repro_run *run)
{
    (void)request;
    return cli_error(CLI_FAILED, "%s is not in this version of the library", run->row->name);
}
