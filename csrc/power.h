/* Vectorisable single-precision power: x^p for normal x > 0 and |p log2 x| < 126, relative error below 2e-6.
 * The polynomials are Chebyshev fits of log2 on [sqrt(1/2), sqrt(2)] and exp2 on [-1/2, 1/2]. */
#ifndef PF_POWER_H
#define PF_POWER_H

#include <stdint.h>
#include <string.h>

static inline float pf_bits_to_float(int32_t i)
{
    float f;
    memcpy(&f, &i, sizeof f);
    return f;
}

static inline int32_t pf_float_to_bits(float f)
{
    int32_t i;
    memcpy(&i, &f, sizeof i);
    return i;
}

static inline float pf_power(float x, float p)
{
    const int32_t shifted = pf_float_to_bits(x) - 0x3f3504f3; /* bits of sqrt(1/2) */
    const int32_t exponent = shifted >> 23;
    const float t = pf_bits_to_float((shifted & 0x007fffff) + 0x3f3504f3) - 1.0f;
    float q = 0.126148462f;
    q = q * t + -0.207421035f;
    q = q * t + 0.215669855f;
    q = q * t + -0.238920346f;
    q = q * t + 0.287918329f;
    q = q * t + -0.360704839f;
    q = q * t + 0.480910599f;
    q = q * t + -0.721347332f;
    q = q * t + 1.44269502f;
    const float y = p * ((float)exponent + q * t);
    const int32_t whole = (int32_t)(y + 128.5f) - 128; /* nearest, and no branch */
    const float z = y - (float)whole;
    float e = 0.000154697322f;
    e = e * z + 0.00134004327f;
    e = e * z + 0.00961802527f;
    e = e * z + 0.0555032715f;
    e = e * z + 0.240226507f;
    e = e * z + 0.693147182f;
    e = e * z + 1.0f;
    return pf_bits_to_float(pf_float_to_bits(e) + (whole << 23));
}

#endif
