// Being written.
#include "net/bravenet.h"

usplit_status us_bravenet_params(us_graph *g)
{
    US_FAIL(USPLIT_ERR_UNSUPPORTED, "family %d is not here yet", g->config.family);
}

usplit_status us_bravenet_nodes(us_graph *g)
{
    US_FAIL(USPLIT_ERR_UNSUPPORTED, "family %d is not here yet", g->config.family);
}
