/* Vectorisable single-precision power: x^p for normal x > 0 and |p log2 x| < 126, relative error below 1e-5.
 * The polynomials are Chebyshev fits of log2 on [sqrt(1/2), sqrt(2)] and exp2 on [-1/2, 1/2],
 * summed in pairs: the chain of dependent operations is what bounds the loops that use them. */
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
    const float t2 = t * t, t4 = t2 * t2;
    const float q = ((1.44269645f + -0.721364021f * t) + (0.480629146f + -0.359350652f * t) * t2)
        + ((0.295633614f + -0.269506276f * t) + 0.172128737f * t2) * t4;
    const float y = p * ((float)exponent + q * t);
    const int32_t whole = (int32_t)(y + 128.5f) - 128; /* nearest, and no branch */
    const float z = y - (float)whole;
    const float z2 = z * z;
    const float e = (1.00000012f + 0.693121016f * z) + ((0.240221068f + 0.0559220351f * z) + 0.00967603736f * z2) * z2;
    return pf_bits_to_float(pf_float_to_bits(e) + whole * (1 << 23)); /* a shift of a negative number is undefined */
}

#endif
