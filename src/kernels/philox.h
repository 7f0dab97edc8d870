// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a random
// number is a function of a key and a counter, so the order in which numbers are asked for, the
// thread and the device never matter. Usable from C and CUDA.
#ifndef US_PHILOX_H
#define US_PHILOX_H

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define US_HD __host__ __device__ static inline
#else
#define US_HD static inline
#endif

// What a draw is for: the first word of every counter, so that streams never meet.
enum us_rng_purpose {
    US_RNG_INIT = 1,        // parameter initialisation: index = parameter number
    US_RNG_ORDER = 2,       // order of items in an epoch: index = epoch
    US_RNG_PATCH = 3,       // patch position: index = (epoch, item)
    US_RNG_DROPOUT = 4,     // mask: (step, sample, layer, channel)
    US_RNG_LATENT = 5,      // training noise: (step, sample, level, element)
    US_RNG_TILE = 6,        // prediction noise: (sample, level, absolute position)
    US_RNG_CRITTERS = 7,    // synthetic data: index = frame
    US_RNG_VALIDATE = 8,    // validation noise
    US_RNG_DIP = 9,         // fixed inputs of Double-DIP: (pixel, network)
    US_RNG_DIP_NOISE = 10,  // noise on them: (iteration, network), then as latents
    US_RNG_MIX = 16         // what a patch is mixed of: index = (epoch, item); bits 8 up of the word: channel, what
};

typedef struct us_u32x4 {
    uint32_t v[4];
} us_u32x4;

US_HD us_u32x4 us_philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    us_u32x4 r = {{c0, c1, c2, c3}};
    return r;
}

// Uniform in [0,1) with 53 bits from two words, with 24 bits from one.
US_HD double us_uniform53(uint32_t a, uint32_t b)
{
    return ((double)(((uint64_t)a << 21) ^ (b >> 11))) * (1.0 / 9007199254740992.0);
}

US_HD float us_uniform24(uint32_t a)
{
    return (float)(a >> 8) * (1.0f / 16777216.0f);
}

#endif
