/*
 * AF_ALG as it was up to Linux 6: newer kernels hide from programs every implementation that answers
 * later, as all hardware does. It comes before the source, whose own inclusion is then without effect.
 */
#include <crypto/if_alg.h>
#undef AF_ALG_CRYPTOAPI_MASK
#define AF_ALG_CRYPTOAPI_MASK 0
