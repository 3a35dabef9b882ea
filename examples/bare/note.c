/* What the loader must know of the shortest enclave. */
#include "swsgx_enclave.h"

SWSGX_ENCLAVE(.attributes = 4, .xfrm = 3, .ssaframesize = 1, .nssa = 1, .threads = 2, .stack_pages = 1);
