// The elementwise operations of a plan's programs (plan.h). Plain C without any other header, so that a compiler for a
// device can read it too.
#ifndef US_UOPS_H
#define US_UOPS_H

// Elementwise operations of a program: registers are blocks of pixels x channels. One row: name, register
// inputs. Arithmetic: src/kernels/elem.h.
#define US_UOPS(X)                                                                                \
    X(LOAD, 0)          /* tensor window; zero outside the node's bounds */                       \
    X(NOISE, 0)         /* standard normal draws of a level */                                    \
    X(PARAM, 0)         /* values of the top prior */                                             \
    X(ADD, 2)           /* a + b */                                                               \
    X(MUL, 2)           /* a * b */                                                               \
    X(MADD, 3)          /* a + b * c */                                                           \
    X(SCALE, 1)         /* k * a */                                                               \
    X(AFFINE, 1)        /* vec[c] * a + vec2[c] */                                                \
    X(AFFINE2, 2)       /* vec[c] * a + vec2[c] * b + vec3[c] */                                  \
    X(MASK, 1)          /* mask[sample, c] * a */                                                 \
    X(ELU, 1)                                                                                     \
    X(ELU_GRAD, 2)      /* g, elu(x): g * (y > 0 ? 1 : y + 1) */                                  \
    X(LEAKY, 1)         /* k: slope */                                                            \
    X(LEAKY_GRAD, 2)    /* g, leaky(x); k: slope */                                               \
    X(DROP, 1)          /* a times multipliers of layer `ref`, drawn anew; k, k2: node's w, c */    \
    X(SIGMOID, 1)                                                                                 \
    X(SIGMOID_GRAD, 2)  /* g, s: g * s * (1 - s) */                                               \
    X(SIGMA, 1)         /* raw log-variance -> standard deviation, k = var_clip_max */            \
    X(SIGMA_GRAD, 3)    /* g, r, sigma */                                                         \
    X(KL, 5)            /* z, mu_p, sigma_p, sigma_q, eps */                                      \
    X(KL_DZ, 3)         /* z, mu_p, sigma_p: w[sample] * u / sigma_p */                           \
    X(KL_DSQ, 3)        /* G, eps, sigma_q: eps * G - w / sigma_q */                              \
    X(KL_DSP, 3)        /* z, mu_p, sigma_p: w * (1 - u^2) / sigma_p */                           \
    X(KL_FULL, 4)       /* mu_q, sigma_q, mu_p, sigma_p */                                        \
    X(KL_FULL_DMQ, 3)   /* mu_q, mu_p, sigma_p: times w[sample] */                                \
    X(KL_FULL_DSQ, 2)   /* sigma_q, sigma_p */                                                    \
    X(KL_FULL_DSP, 4)   /* mu_q, sigma_q, mu_p, sigma_p */                                        \
    X(MSE, 2)           /* target, output: k * (output - target)^2 */                             \
    X(MSE_D, 2)         /* target, output: k * (output - target) */                               \
    X(MAX, 1)           /* max(a, k) */                                                           \
    X(NLL, 3)           /* target, mean, logvar */                                                \
    X(NLL_DM, 3)        /* target, mean, logvar: k * d/dmean */                                   \
    X(NLL_DLV, 4)       /* target, mean, logvar, raw logvar: k * d/dlogvar, 0 where raw < k2 */   \
    X(STORE, 1)         /* to a tensor */                                                         \
    X(SUM, 1)           /* per sample and channel: sum a */                                       \
    X(SUM2, 2)          /* per sample and channel: sum a, sum a * b */

typedef enum us_uop_code {
#define X(name, arity) US_U_##name,
    US_UOPS(X)
#undef X
    US_U_COUNT
} us_uop_code;

enum { US_UOP_MAX_IN = 5 };

#ifndef __CUDACC_RTC__          // what compiles at run time sees no host functions
// Register inputs of an operation.
static inline int us_uop_arity(int code)
{
    static const signed char arity[] = {
#define X(name, arity) arity,
        US_UOPS(X)
#undef X
    };
    return arity[code];
}
#endif

#endif
