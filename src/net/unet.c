// Being written.
#include "net/unet.h"

usplit_status us_unet_params(us_graph *g)
{
    US_FAIL(USPLIT_ERR_UNSUPPORTED, "family %d is not here yet", g->config.family);
}

usplit_status us_unet_nodes(us_graph *g)
{
    US_FAIL(USPLIT_ERR_UNSUPPORTED, "family %d is not here yet", g->config.family);
}
